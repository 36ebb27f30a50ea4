package front

import "syscall"

// socket is where kist's own daemon would listen for this user, if no one has named another.
func socket() (string, bool) {
	for _, name := range []string{"KIST_HOST", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_API_VERSION"} {
		if v, _ := syscall.Getenv(name); v != "" {
			return "", false
		}
	}
	dir, _ := syscall.Getenv("KIST_EXEC_ROOT")
	if dir == "" {
		if syscall.Geteuid() != 0 {
			return "", false // Its own daemon, if any, is elsewhere; the ordinary client knows where.
		}
		dir = "/run/kist"
	}
	path := dir + "/" + Socket
	return path, len(path) < 100 // An address of a socket holds 108 bytes.
}

// maxSettings is the largest settings file that is looked at.
const maxSettings = 4 << 10

// plainSettings says that the user's settings change nothing about a container: they name no proxies and no other daemon, and there is
// nothing to complain about.
func plainSettings() bool {
	dir, _ := syscall.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, _ := syscall.Getenv("HOME")
		dir = home + "/.docker"
	}
	fd, err := syscall.Open(dir+"/config.json", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err == syscall.ENOENT || err == syscall.ENOTDIR
	}
	buf := make([]byte, maxSettings)
	n, err := syscall.Read(fd, buf)
	_ = syscall.Close(fd)
	if err != nil || n == len(buf) {
		return false
	}
	text := trim(string(buf[:n]))
	return len(text) >= 2 && text[0] == '{' && text[len(text)-1] == '}' && !contains(text, `"proxies"`) && !contains(text, `"currentContext"`)
}
