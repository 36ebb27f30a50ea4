package cgroup

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// unlimited is how version 1 says "no limit" where it can: the largest number of pages.
const unlimited = 0x7FFFFFFFFFFFF000

// write writes a value with three system calls and nothing else.
func (d *hierarchy) write(rel, file, value string) error {
	fd, err := d.open(rel, file, unix.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = retry(func() (int, error) { return unix.Write(fd, []byte(value)) })
	unix.Close(fd)
	if err != nil {
		return fmt.Errorf("writing %q to %s/%s/%s: %w", value, d.path, rel, file, err)
	}
	return nil
}

// writeAll writes several values into one file, which takes one at a time.
func (d *hierarchy) writeAll(rel, file string, values []string) error {
	if len(values) == 0 {
		return nil
	}
	fd, err := d.open(rel, file, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, v := range values {
		if _, err := retry(func() (int, error) { return unix.Write(fd, []byte(v)) }); err != nil {
			return fmt.Errorf("writing %q to %s/%s/%s: %w", v, d.path, rel, file, err)
		}
	}
	return nil
}

func (d *hierarchy) open(rel, file string, flags int) (int, error) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(d.fd, rel+"/"+file, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	})
	if err != nil {
		return -1, fmt.Errorf("opening %s/%s/%s: %w", d.path, rel, file, err)
	}
	return fd, nil
}

func (d *hierarchy) read(rel, file string) (string, error) {
	fd, err := d.open(rel, file, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var out []byte
	buf := make([]byte, 4096)
	for {
		n, err := retry(func() (int, error) { return unix.Read(fd, buf) })
		if err != nil {
			return "", fmt.Errorf("reading %s/%s/%s: %w", d.path, rel, file, err)
		}
		if n == 0 {
			return string(out), nil
		}
		out = append(out, buf[:n]...)
	}
}

// number reads a file of one number; "max" and what is not there count as 0.
func (d *hierarchy) number(rel, file string) (uint64, error) {
	s, err := d.read(rel, file)
	if absent(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return parseNumber(s), nil
}

func parseNumber(s string) uint64 {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// table reads a file of "key value" lines; it is empty if the file is not there.
func (d *hierarchy) table(rel, file string) (map[string]uint64, error) {
	s, err := d.read(rel, file)
	if absent(err) {
		return map[string]uint64{}, nil
	}
	if err != nil {
		return nil, err
	}
	return parseTable(s), nil
}

func parseTable(s string) map[string]uint64 {
	out := make(map[string]uint64, 40)
	for line := range strings.Lines(s) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			out[key] = parseNumber(value)
		}
	}
	return out
}

// absent: the kernel lacks the file, or the group has gone.
func absent(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) }

func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
