# Two VMs in one file. Each file stands for itself: an error in this one would
# leave both running on their last good definition, and touch no other.
locals {
  memory = 128
  domain = "example.test"
}

task "web" {
  driver = "qemu" # a Nomad task stanza works here as it is

  config {
    image_path        = "web.img"
    emulator          = "x86_64"
    graceful_shutdown = true

    # label = port in the guest
    port_map {
      http = 80
      ssh  = 22
    }
  }

  resources {
    memory = local.memory
  }
  # With no network block each label gets a free host port, once and for good:
  # `qemu-reconciler status web` shows them.

  meta {
    url = "http://${host.name}:${port.http}/"
  }
}

task "db" {
  config {
    image_path        = "db.img"
    emulator          = "x86_64"
    graceful_shutdown = true
    args              = ["-device", "virtio-rng-pci"]
  }

  resources {
    memory = max(local.memory, 192)
    cores  = 2
  }

  meta {
    fqdn = "${task.name}.${local.domain}"
  }
}
