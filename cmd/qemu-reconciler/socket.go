package main

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"sync/atomic"

	"github.com/qemu-reconciler/qemu-reconciler/runtime"
)

// controlSocket is the daemon's listening socket while it is served.
type controlSocket struct {
	path  string
	serve func() error
	close func() error
	// replaced is set when another one has taken its place.
	replaced atomic.Bool
}

func listenControl(path string, server *http.Server) (*controlSocket, error) {
	listener, err := runtime.ListenControl(path)
	if err != nil {
		return nil, err
	}
	return &controlSocket{path: path, serve: func() error { return server.Serve(listener) }, close: listener.Close}, nil
}

// serveControl answers on a socket until the daemon ends.
func (d *daemonProcess) serveControl(s *controlSocket) {
	d.work.Go(func() {
		if err := s.serve(); !errors.Is(err, http.ErrServerClosed) && !s.replaced.Load() {
			d.log.Error("the control socket failed: commands do not reach this daemon", "error", err)
		}
	})
}

// mendControl makes the control socket anew when it is gone, as after somebody
// has cleaned /run: nobody could reach the daemon any more. It costs one look
// a pass, and is called by the loop alone.
func (d *daemonProcess) mendControl() {
	_, err := os.Lstat(d.socket.path)
	if !errors.Is(err, fs.ErrNotExist) || d.life.Err() != nil {
		return
	}
	err = d.renewControl()
	switch {
	case err == nil:
		d.socketTrouble = ""
		d.log.Warn("the control socket was gone and has been made anew", "path", d.socket.path)
	case err.Error() != d.socketTrouble: // said once, not at every pass
		d.socketTrouble = err.Error()
		d.log.Error("the control socket is gone and cannot be made anew: commands do not reach this daemon", "error", err)
	}
}

func (d *daemonProcess) renewControl() error {
	if err := d.setup.layout().Prepare(); err != nil {
		return err
	}
	// The old one goes first: to close it removes its path.
	d.socket.replaced.Store(true)
	if err := d.socket.close(); err != nil {
		d.log.Debug("the control socket that is gone was not closed", "error", err)
	}
	renewed, err := listenControl(d.socket.path, d.control)
	if err != nil {
		return err
	}
	d.socket = renewed
	d.serveControl(renewed)
	return nil
}
