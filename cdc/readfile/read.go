package readfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
)

// Limits in bytes. Secrets are tokens and passwords; certificates may come as a bundle of all authorities that a system trusts.
const (
	MaxSecret      = 64 << 10
	MaxCertificate = 4 << 20
)

// What Read refuses, found by errors.Is.
var (
	ErrNotRegular = errors.New("is not a regular file")
	ErrTooLarge   = errors.New("is too large")
)

// Read returns the content of a regular file of at most so many bytes. A symbolic link is followed. Its errors name the file,
// and repeat nothing of its content.
func Read(name string, most int64) ([]byte, error) {
	// Without O_NONBLOCK the open of a pipe waits for a writer.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, printable(name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, printable(name, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s %w", quoted(name), ErrNotRegular)
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, printable(name, err)
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%s %w: at most %d bytes are read", quoted(name), ErrTooLarge, most)
	}
	return data, nil
}

// Check reports why Read would fail, and reads nothing.
func Check(name string, most int64) error {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return printable(name, &os.PathError{Op: "open", Path: name, Err: errors.Unwrap(err)})
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s %w", quoted(name), ErrNotRegular)
	case info.Size() > most:
		return fmt.Errorf("%s %w: at most %d bytes are read", quoted(name), ErrTooLarge, most)
	}
	return nil
}

// printable is an error of package os whose text quotes the name of the file if a terminal would take part of it for a command.
func printable(name string, err error) error {
	var at *os.PathError
	if quoted(name) != name && errors.As(err, &at) {
		return &os.PathError{Op: at.Op, Path: quoted(name), Err: at.Err}
	}
	return err
}

// quoted is display.Name for the common case: this package imports nothing.
func quoted(name string) string {
	if q := strconv.Quote(name); q[1:len(q)-1] != name {
		return q
	}
	return name
}
