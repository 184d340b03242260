# A task that uses every attribute. Only config.image_path is required; the
# comments say what is meant when an attribute is left out.
task "every-attribute" {
  driver = "qemu" # the only one

  # running (default) or stopped: the VM is known, keeps its ports, and is off.
  state = "stopped"

  # Globs on the host name; default: wanted on every host.
  hosts = ["*"]

  # restart (default): an edit that needs a new process stops the VM gracefully
  # and starts it again.
  # "reboot" (when the guest next reboots) is not built yet.
  on_change = "restart"

  # stop (default) or keep: what happens to the VM when this task is removed.
  # keep leaves it running, and the task's return adopts it again.
  on_remove = "stop"

  # How long the guest is asked to power off before force; default 60s.
  kill_timeout = "30s"

  # What the guest sees; default: made of machine id, state directory and name.
  uuid = "6f1f3c2a-8a57-4a0e-9d6c-3f6c1c5b7e11"

  # Not built yet:
  #   user       = "libvirt-qemu"   QEMU runs as this user
  #   depends_on = ["db"]           started after it, stopped before it

  config {
    # A regular file or a block device, relative to this directory.
    image_path = "every-attribute.img"

    # raw qcow2 vmdk vdi vhdx vpc qed; default: detected once, then kept.
    image_format = "raw"

    # tcg (default), kvm, or what else the emulator offers.
    accelerator = "tcg"

    # Which QEMU, as an architecture or a program; default: the host's own.
    emulator = "qemu-system-x86_64"

    # Default: pc on x86, virt on arm and riscv.
    machine_type = "q35"

    # ide scsi sd mtd floppy pflash virtio none; default: ide on pc and q35,
    # else virtio.
    drive_interface = "virtio"

    # Ask the guest to power off before force; default: no.
    graceful_shutdown = true

    # Add the guest agent's channel and use it for that when the guest answers;
    # default: no.
    guest_agent = true

    # Passed to QEMU as they are, after the program's own.
    args = ["-device", "virtio-rng-pci", "-rtc", "base=utc"]

    # label = port in the guest. Without it the guest reaches out and nothing
    # reaches in.
    port_map {
      ssh  = 22
      http = 8080
    }
  }

  resources {
    memory = 256 # MiB; default 512
    cores  = 2   # default 1

    # Says where the labels are on the host; default: an allocated port each.
    network {
      port "ssh" {
        static    = 22022       # default: allocated once, then kept
        host_ip   = "127.0.0.1" # an IPv4 address; default: all of them
        protocols = ["tcp"]     # default: tcp and udp
      }
      port "http" {}
    }
  }

  # What happens when the VM ends by itself.
  restart {
    on        = "failure" # always (default); failure: a guest that powers itself off stays off; never
    attempts  = 5         # in interval; default: unlimited
    interval  = "10m"     # so long in health, and the past is forgotten
    delay     = "1s"      # the first restart is at once, the second after this, then twice as long each time …
    max_delay = "1m"      # … up to this
    mode      = "delay"   # fail: give up after attempts until the task is edited
  }

  # QEMU's own environment; the values are never shown.
  env {
    TMPDIR = "/tmp"
  }

  # Labels of your own, shown in status.
  meta {
    owner   = "operations"
    purpose = "${task.name} on ${host.name} (${host.arch})"
    ssh     = "ssh -p ${port.ssh} root@127.0.0.1"
  }
}
