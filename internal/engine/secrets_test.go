package engine

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"
)

func TestCheckSecrets(t *testing.T) {
	mode := func(m uint32) *uint32 { return &m }
	taken := []mountPoint{{Type: mount.TypeBind, Target: "/run/secrets/taken"}}
	for _, tc := range []struct {
		name          string
		secret        Secret
		target, fault string
	}{
		{"usual", Secret{ID: "db_password"}, "/run/secrets/db_password", ""},
		{"name", Secret{ID: "a", Target: "b/c"}, "/run/secrets/b/c", ""},
		{"path", Secret{ID: "a", Target: "/etc/../x"}, "/x", ""},
		{"taken", Secret{ID: "taken"}, "", "Duplicate mount point"},
		{"climbs", Secret{ID: "../x"}, "", "invalid id"},
		{"nameless", Secret{}, "", "invalid id"},
		{"root", Secret{ID: "a", Target: "/"}, "", "invalid target"},
		{"mode", Secret{ID: "a", Mode: mode(0o4755)}, "", "invalid mode"},
		{"large", Secret{ID: "a", Data: make([]byte, maxSecret+1)}, "", "larger than"},
	} {
		list := []Secret{tc.secret}
		err := checkSecrets(list, taken)
		if tc.fault != "" {
			if err == nil || !strings.Contains(err.Error(), tc.fault) {
				t.Errorf("%s: %v, want %q", tc.name, err, tc.fault)
			}
			continue
		}
		if err != nil || list[0].Target != tc.target {
			t.Errorf("%s: %q, %v, want %q", tc.name, list[0].Target, err, tc.target)
		}
	}
	if err := checkSecrets(make([]Secret, maxSecrets+1), nil); err == nil {
		t.Error("too many were accepted")
	}
	if got := withoutValues([]Secret{{ID: "a", Data: []byte("value")}}); got[0].Data != nil || got[0].ID != "a" {
		t.Errorf("%+v", got)
	}
}

// TestMemoryAt makes a directory in memory on a disk, once.
func TestMemoryAt(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skip: mounting needs root")
	}
	dir := filepath.Join(t.TempDir(), "secrets")
	done := make(chan error, 1)
	var apart func()
	apart = func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // The first thread would not end: it waits, and another one does it.
			defer runtime.UnlockOSThread()
			other := make(chan struct{})
			go func() { defer close(other); apart() }()
			<-other
			return
		}
		done <- inMemory(t, dir) // The thread is never unlocked: with its mounts it ends with the goroutine.
	}
	go apart()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// inMemory makes the directory, in a mount namespace of the thread's own.
func inMemory(t *testing.T, dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	for range 2 {
		if err := memoryAt(dir); err != nil {
			return err
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		t.Errorf("file system %x, %v", st.Type, err)
	}
	raw, err := os.ReadFile("/proc/thread-self/mountinfo")
	if n := strings.Count(string(raw), " "+dir+" "); n > 1 {
		t.Errorf("mounted %d times", n)
	}
	return err
}
