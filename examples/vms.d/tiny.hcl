# The smallest useful task: an image and how to stop it. What is not said here
# has a default; every-attribute.hcl names them all.
task "tiny" {
  config {
    image_path        = "tiny.img" # relative to this directory
    emulator          = "x86_64"   # default: the host's own architecture
    graceful_shutdown = true       # press the power button before pulling the plug
  }

  resources {
    memory = 128 # MiB
  }
}
