package spec

// ignoredWords are words of Nomad's job files without a meaning here. They
// stand in a task, its resources or its network; a warning says why they do
// nothing.
var ignoredWords = map[string]string{
	"cpu":            "shares of CPU time are the service manager's business; use cores for the number of virtual CPUs",
	"mbits":          "bandwidth is not reserved",
	"disk":           "the size of the disk is that of the image",
	"logs":           "log files are rotated by log_max_size in config.hcl",
	"service":        "services are not registered anywhere",
	"constraint":     "use hosts to choose the hosts",
	"affinity":       "use hosts to choose the hosts",
	"leader":         "tasks of a file do not depend on one another",
	"kill_signal":    "a VM is stopped over QMP; see graceful_shutdown and kill_timeout",
	"shutdown_delay": "nothing is deregistered before a stop",
	"vault":          "there is no Vault here",
	"lifecycle":      "tasks have no hooks",
}

// refusedWords are words of Nomad whose loss would change the machine, with
// what to write instead.
var refusedWords = map[string]string{
	"artifact":     "Nothing is downloaded: put the file on the host yourself and give its path in config.image_path.",
	"template":     "Files are not rendered: write the file yourself, or use expressions such as file(\"NAME\") and format(…) in config.args.",
	"device":       "Devices are given to QEMU in config.args, e.g. args = [\"-device\", \"vfio-pci,host=01:00.0\"].",
	"volume_mount": "Volumes are given to QEMU in config.args, e.g. args = [\"-drive\", \"driver=raw,file.driver=file,file.filename=/srv/data.img,if=virtio\"].",
}

// placedWords are words that belong nowhere, with what was probably meant. The
// key is the block's name, a dot, and the word.
var placedWords = map[string]string{
	"port.to":           "Write the guest's port in config.port_map.",
	"port.host_network": "Write the host's address in host_ip.",
	"network.mode":      "The network is always QEMU's user network; use config.args for another.",
	"restart.policy":    "The policy is the attribute named on.",
	"config.memory":     "Memory is written in the resources block.",
	"config.cores":      "Cores are written in the resources block.",
	"file.job":          "A job file of Nomad is converted with: qemu-reconciler import nomad FILE",
	"file.variable":     "There are no variables; write locals { … } instead.",
	"file.locals":       "Write locals as a block, without the equals sign: locals { … }",
	"file.group":        "Write task blocks at the top of the file, without a job or group around them.",
}
