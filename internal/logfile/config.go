package logfile

import (
	"fmt"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"

	"github.com/kistdev/kist/internal/fault"
)

// Config says where a container's output goes. It is what docker's --log-driver and --log-opt are turned into.
type Config struct {
	// Driver is "json-file", "local" or "none".
	Driver string
	// Path is the log file; rotated ones get .1, .2 (and .gz) appended.
	Path string
	// MaxSize is the size in bytes at which the file is rotated. 0 means DefaultMaxSize, negative means never.
	MaxSize int64 `json:",omitempty"`
	// MaxFiles counts the files kept, the current one included. 0 means DefaultMaxFiles.
	MaxFiles int  `json:",omitempty"`
	Compress bool `json:",omitempty"`
	// Attrs are written with each record (docker's labels, env, tag options). See Attributes.
	Attrs map[string]string `json:",omitempty"`
}

// Rotation is on by default: 10 MiB in each of 3 files.
const (
	DefaultMaxSize  = 10 << 20
	DefaultMaxFiles = 3
)

// The drivers' names.
const (
	driverJSON  = "json-file"
	driverLocal = "local"
	driverNone  = "none"
)

// ParseConfig turns docker's driver name and options into a Config; an empty name is json-file. An unknown driver or
// option, or a value that cannot be read, is an errdefs.ErrInvalidArgument that names it. The options that choose
// attributes (labels, env, tag and their kin) are only checked here: Attributes reads them.
//
// mode and max-buffer-size are accepted: writing to a local file never waits for a reader, which is what
// mode=non-blocking asks for, and it is never bought with lost records here.
func ParseConfig(driver, path string, options map[string]string) (Config, error) {
	c := Config{Driver: driver, Path: path}
	switch driver {
	case "":
		c.Driver = driverJSON
	case driverJSON, driverNone:
	case driverLocal:
		c.Compress = true
	default:
		return Config{}, invalid("log-driver-unknown", fmt.Sprintf("logger: no log driver named '%s' is registered", driver),
			"json-file, local or none")
	}
	for name, value := range options {
		if err := c.set(name, value); err != nil {
			return Config{}, err
		}
	}
	if options["compress"] != "" && c.Compress && (c.maxFiles() < 2 || c.MaxSize < 0) {
		return Config{}, invalid("log-option-value", "compress cannot be true when max-file is less than 2 or max-size is not set", "")
	}
	return c, nil
}

func (c *Config) set(name, value string) error {
	bad := func(why string) error {
		return invalid("log-option-value", fmt.Sprintf("invalid value for log option %s: %q: %s", name, value, why), "")
	}
	if c.Driver == driverNone && name != "mode" && name != "max-buffer-size" {
		return unknownOption(name, c.Driver)
	}
	switch name {
	case "max-size":
		return c.setMaxSize(value, bad)
	case "max-file":
		n, err := strconv.Atoi(value)
		if err != nil {
			return bad("not a number")
		}
		if n < 1 {
			return bad("max-file cannot be less than 1")
		}
		c.MaxFiles = n
	case "compress":
		b, err := strconv.ParseBool(value)
		if err != nil {
			return bad("neither true nor false")
		}
		c.Compress = b
	case "mode":
		if value != "" && value != "blocking" && value != "non-blocking" {
			return bad("neither blocking nor non-blocking")
		}
	case "max-buffer-size":
		if _, err := units.RAMInBytes(value); err != nil {
			return bad("not a size")
		}
	case "labels", "labels-regex", "env", "env-regex", "tag":
		return checkAttribute(name, value)
	default:
		return unknownOption(name, c.Driver)
	}
	return nil
}

func (c *Config) setMaxSize(value string, bad func(string) error) error {
	if value == "-1" {
		c.MaxSize = -1
		return nil
	}
	n, err := units.FromHumanSize(value)
	if err != nil {
		return bad("not a size")
	}
	if n <= 0 {
		return bad("max-size must be a positive number")
	}
	c.MaxSize = n
	return nil
}

func unknownOption(name, driver string) error {
	return invalid("log-option-unknown", fmt.Sprintf("unknown log opt '%s' for %s log driver", name, driver), "")
}

func invalid(code, what, try string) error {
	return &fault.Error{Code: code, What: what, Try: try, Class: errdefs.ErrInvalidArgument}
}

func (c *Config) maxSize() int64 {
	if c.MaxSize == 0 {
		return DefaultMaxSize
	}
	return c.MaxSize
}

func (c *Config) maxFiles() int {
	if c.MaxFiles == 0 {
		return DefaultMaxFiles
	}
	return max(c.MaxFiles, 1)
}
