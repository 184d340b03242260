package runtime

import (
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// judgedImage is how an image is to be opened.
type judgedImage struct {
	format      string
	blockDevice bool
	// pin is set when the format was detected just now.
	pin *PinnedFormat
}

// judgeImage takes the format that the operator gave, or the one that is pinned
// to this very file, or detects it. A guest that writes another format's header
// into its disk changes nothing about a file whose format is known.
func judgeImage(task *spec.Task, pinned *PinnedFormat) (judgedImage, error) {
	path := task.Config.ImagePath
	if given := task.Config.ImageFormat; given != "" {
		file, info, err := openImage(path)
		if err != nil {
			return judgedImage{}, err
		}
		return judgedImage{format: given, blockDevice: info.BlockDevice}, file.Close()
	}
	detected, info, err := DetectFormat(path)
	if err != nil {
		return judgedImage{}, err
	}
	if pinned != nil && pinned.Device == info.Device && pinned.Inode == info.Inode {
		return judgedImage{format: pinned.Format, blockDevice: info.BlockDevice}, nil
	}
	pin := &PinnedFormat{Format: detected, Device: info.Device, Inode: info.Inode}
	return judgedImage{format: detected, blockDevice: info.BlockDevice, pin: pin}, nil
}

// uuidOf is what the guest is to see: what the operator gave, what it saw
// before, or what follows from host, directory and name.
func (r *Runtime) uuidOf(task *spec.Task, record *Record) string {
	return uuidOf(task, record, r.host, r.layout.State)
}

func uuidOf(task *spec.Task, record *Record, host, state string) string {
	if task.UUID != "" {
		return task.UUID
	}
	if record != nil && record.UUID != "" && (record.Applied == nil || record.Applied.UUID == "") {
		return record.UUID
	}
	return deriveUUID(host, state, task.Name)
}
