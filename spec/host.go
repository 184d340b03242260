package spec

// Host is what validation may ask of the host. The runtime's fingerprint
// implements it; nil leaves the host out (validate --offline). Answers may be
// cached by the implementation, and every method is safe for concurrent use.
type Host interface {
	// Emulators lists the QEMU system emulators by program name, sorted.
	Emulators() []string
	// Emulator describes one; the error says in one sentence why it cannot be
	// used (missing, too old) and what to install.
	Emulator(name string) (EmulatorInfo, error)
	// Image checks that path is a regular file or block device that can be
	// opened; the error is one sentence.
	Image(path string) (ImageInfo, error)
}

// EmulatorInfo is what one emulator offers.
type EmulatorInfo struct {
	Version      string
	Accelerators []string
	MachineTypes []string
}

// ImageInfo identifies the file behind an image path.
type ImageInfo struct {
	Device, Inode uint64
	BlockDevice   bool
}
