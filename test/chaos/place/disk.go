//go:build linux

package place

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"
)

// Disk is an ext4 file system of fixed size in a file, mounted for one child.
type Disk struct {
	image, dir string
}

const (
	// ext4Shutdown is EXT4_IOC_SHUTDOWN; with the flag nothing more is flushed,
	// not even the journal: what was not synced is gone.
	ext4Shutdown = 0x8004587d
	noLogFlush   = 2
	// commitSeconds is how often ext4 would write by itself: later than any
	// test, so that only what was synced can be relied on.
	commitSeconds = 300
	mountWait     = 10 * time.Second
)

// NewDisk makes an empty one and mounts it at dir.
func NewDisk(dir string, megabytes int64) (*Disk, error) {
	if !Inside() {
		return nil, errors.New("the machine's own mounts are left alone: Enter first")
	}
	d := &Disk{image: dir + ".img", dir: dir}
	if err := errors.Join(os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, megabytes<<20), os.MkdirAll(dir, 0o700)); err != nil {
		return nil, err
	}
	if _, err := run("mkfs.ext4", "-q", "-F", "-m", "0", d.image); err != nil {
		return nil, err
	}
	if err := d.mount(); err != nil {
		return nil, err
	}
	return d, errors.Join(os.Remove(filepath.Join(dir, "lost+found")), os.Chmod(dir, 0o700))
}

func (d *Disk) mount() error {
	_, err := run("mount", "-o", fmt.Sprintf("loop,commit=%d", commitSeconds), d.image, d.dir)
	return err
}

// unmount waits for the last file to be closed.
func (d *Disk) unmount() error {
	deadline := time.Now().Add(mountWait)
	for {
		err := syscall.Unmount(d.dir, 0)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("unmount %s: %w", d.dir, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Close unmounts the disk and removes it.
func (d *Disk) Close() error { return errors.Join(d.unmount(), os.Remove(d.image)) }

// Names of the files that show what a loss of power did.
const (
	keptFile = ".power-kept"
	lostFile = ".power-lost"
)

// CutPower loses everything that was not synced, and every access fails from
// here on. Restore brings the disk back when its child has ended.
func (d *Disk) CutPower() error {
	if err := d.leave(keptFile, true); err != nil {
		return err
	}
	if err := d.leave(lostFile, false); err != nil {
		return err
	}
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	flag := uint32(noLogFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&flag))); errno != 0 {
		return fmt.Errorf("shut down %s: %w", d.dir, errno)
	}
	return nil
}

// leave makes a file.
func (d *Disk) leave(name string, synced bool) error {
	f, err := os.Create(filepath.Join(d.dir, name))
	if err != nil {
		return err
	}
	_, err = f.WriteString(name)
	if synced {
		err = errors.Join(err, f.Sync())
	}
	return errors.Join(err, f.Close())
}

// Restore mounts the disk again after CutPower. It is an error if the power
// loss did not lose what it should, or lost what it should not.
func (d *Disk) Restore() error {
	if err := d.unmount(); err != nil {
		return err
	}
	if err := d.mount(); err != nil {
		return err
	}
	kept, lost := filepath.Join(d.dir, keptFile), filepath.Join(d.dir, lostFile)
	if _, err := os.Stat(kept); err != nil {
		return fmt.Errorf("what was synced is gone: %w", err)
	}
	// Its name is there if the child synced a file of its own in between: that
	// writes down what the directories are, and not what is in other files.
	switch text, err := os.ReadFile(lost); {
	case errors.Is(err, os.ErrNotExist):
		return os.Remove(kept)
	case err != nil:
		return err
	case len(text) > 0:
		return fmt.Errorf("%s was not synced and still has %q in it", lost, text)
	}
	return errors.Join(os.Remove(kept), os.Remove(lost))
}

const fillFile = ".fill"

// Fill leaves no room on the disk.
func (d *Disk) Fill() error {
	f, err := os.Create(filepath.Join(d.dir, fillFile))
	if err != nil {
		return err
	}
	defer f.Close()
	for at, size := int64(0), int64(1<<30); size >= 512; {
		err := syscall.Fallocate(int(f.Fd()), 0, at, size)
		switch {
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case err != nil:
			return err
		default:
			at += size
		}
	}
	return nil
}

// Free undoes Fill.
func (d *Disk) Free() error { return os.Remove(filepath.Join(d.dir, fillFile)) }
