package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/typo"
)

// cannotStart is how all complaints of a daemon that does not come up begin.
const cannotStart = "the daemon cannot start: "

// report tells why the daemon has not started: whoever reads its log, and the command that started it.
func report(err error) {
	f := explainStart(err)
	fmt.Fprint(os.Stderr, f.Lines())
	fd, err := strconv.Atoi(os.Getenv("KIST_READY_FD"))
	if err != nil {
		return
	}
	ready := os.NewFile(uintptr(fd), "ready")
	// Whoever waited may have given up.
	_ = json.NewEncoder(ready).Encode(client.StartFailure{Code: f.Code, What: f.What, Cause: f.Cause, Try: f.Try})
	_ = ready.Close()
}

// explainStart makes a fault of whatever kept the daemon from starting.
func explainStart(err error) *fault.Error {
	var path string
	var at *fs.PathError
	if errors.As(err, &at) {
		path = at.Path
	}
	f := &fault.Error{Code: "daemon-start-failed", What: cannotStart + err.Error(), Try: "kist doctor", Err: err}
	if known, ok := fault.As(err); ok {
		f.Code, f.What, f.Cause, f.Try = known.Code, known.What, known.Cause, cmp.Or(known.Try, "kist doctor")
		if f.Cause == "" && known.Err != nil {
			f.Cause = known.Err.Error()
		}
		if !strings.HasPrefix(f.What, cannotStart) {
			f.What = cannotStart + f.What
		}
		return f
	}
	place := cmp.Or(path, "its directories")
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		f.Code, f.What, f.Cause = "disk-full", cannotStart+"no space left where "+place+" is", err.Error()
		f.Try = "df -h " + filepath.Dir(place) + ", or kistd --data-root DIRECTORY on another disk"
	case errdefs.IsDataLoss(err):
		f.Code, f.Try = "store-damaged", "kist doctor says what is damaged, kist doctor --fix moves it away"
	case errors.Is(err, unix.EROFS):
		f.Code, f.What, f.Cause = "daemon-data-root", cannotStart+place+" is on a read-only file system", err.Error()
		f.Try = "kistd --data-root DIRECTORY on another one"
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		f.Code, f.What, f.Cause = "daemon-needs-root", cannotStart+"it needs root", err.Error()
		f.Try = "sudo kist ..."
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EEXIST):
		f.Code, f.What, f.Cause = "daemon-data-root", cannotStart+"a file is in the way of its directory "+place, err.Error()
		f.Try = "kistd --data-root DIRECTORY"
	}
	return f
}

// configFault says where in the configuration file the mistake is.
func configFault(path string, raw []byte, err error) error {
	f := &fault.Error{
		Code: "daemon-config", What: cannotStart + "its configuration " + path + " cannot be read", Cause: err.Error(),
		Try: "correct the file; its keys are dockerd's", Class: errdefs.ErrInvalidArgument, Err: err,
	}
	var (
		syntax *json.SyntaxError
		kind   *json.UnmarshalTypeError
	)
	switch {
	case errors.As(err, &syntax):
		f.What = cannotStart + "its configuration " + path + " is no JSON"
		f.Cause = fmt.Sprintf("line %s: %v", lineOf(raw, syntax.Offset), syntax)
		f.Try = "correct that line"
	case errors.As(err, &kind):
		f.What = fmt.Sprintf("%sthe key %q of its configuration %s has a value of the wrong kind", cannotStart, kind.Field, path)
		f.Cause = fmt.Sprintf("line %s: %s, where %s is wanted", lineOf(raw, kind.Offset), kind.Value, kindName(kind.Type))
		f.Try = "correct that line"
	}
	return f
}

// lineOf is the line and the column of a byte.
func lineOf(raw []byte, offset int64) string {
	before := raw[:min(max(offset-1, 0), int64(len(raw)))]
	line := bytes.Count(before, []byte("\n")) + 1
	return fmt.Sprintf("%d, column %d", line, len(before)-bytes.LastIndexByte(before, '\n'))
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice:
		return "a list of strings"
	case reflect.Map:
		return "an object of strings"
	case reflect.Bool:
		return "true or false"
	}
	return "a " + t.Kind().String()
}

// unknownKey refuses a key that the configuration does not have; a daemon that reads past it would do something else than what
// was asked for.
func unknownKey(path, key string) error {
	f := &fault.Error{
		Code: "daemon-config", What: fmt.Sprintf("%sits configuration %s has the unknown key %q", cannotStart, path, key),
		Try: "take it out", Class: errdefs.ErrInvalidArgument,
	}
	if near := typo.Nearest(key, configKeys()); near != "" {
		f.Try = fmt.Sprintf("did you mean %q?", near)
	}
	return f
}

// configKeys are the keys of the file.
func configKeys() []string {
	var keys []string
	for field := range reflect.TypeFor[config]().Fields() {
		if tag := field.Tag.Get("json"); tag != "" {
			keys = append(keys, tag)
		}
	}
	slices.Sort(keys)
	return keys
}

// badSetting refuses a value of a flag or of the configuration.
func badSetting(format string, args ...any) error {
	return &fault.Error{Code: "daemon-config", What: cannotStart + fmt.Sprintf(format, args...), Try: "kistd --help", Class: errdefs.ErrInvalidArgument}
}

// taken explains a root that another daemon has.
func taken(dir, lock string, err error) error {
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	by := "another kistd"
	if raw, rerr := os.ReadFile(lock); rerr == nil && len(bytes.TrimSpace(raw)) > 0 {
		by += " (pid " + string(bytes.TrimSpace(raw)) + ")"
	}
	return &fault.Error{
		Code: "daemon-root-in-use", What: fmt.Sprintf("%s%s is in use by %s", cannotStart, dir, by),
		Try: "use that daemon (kist ps), or give this one a --data-root and an --exec-root of its own", Class: errdefs.ErrConflict, Err: err,
	}
}
