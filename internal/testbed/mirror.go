package testbed

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Mirror returns a directory with a part of this machine's Debian mirror, as the mirror has it: the signed release file of
// the suite, its list of packages, and of the packages those that debootstrap takes for a minimal system, and the named ones
// with what they need. The suite is returned, too.
func Mirror(ctx context.Context, packages ...string) (dir, suite string, err error) {
	suite, mirror := aptSource()
	if mirror == "" {
		return "", "", errors.New("apt's configuration names no Debian mirror")
	}
	dir, err = made(ctx, "mirror-"+strings.Join(append([]string{suite}, packages...), "-"), func(dir string) error {
		work, err := os.MkdirTemp(Images(), ".mirror-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(work)
		args := []string{"--download-only", "--variant=minbase"}
		if len(packages) > 0 {
			args = append(args, "--include="+strings.Join(packages, ","))
		}
		if err := command(ctx, "debootstrap", append(args, suite, work, mirror)...); err != nil {
			return err
		}
		if err := copyDebs(work, dir, mirror); err != nil {
			return err
		}
		return fetchSuite(ctx, mirror, dir, suite)
	})
	return dir, suite, err
}

// Debootstrapped returns the minimal system that debootstrap makes of that mirror.
func Debootstrapped(ctx context.Context, packages ...string) (string, error) {
	mirror, suite, err := Mirror(ctx, packages...)
	if err != nil {
		return "", err
	}
	return made(ctx, "debootstrapped-"+filepath.Base(mirror), func(dir string) error {
		return command(ctx, "debootstrap", "--variant=minbase", suite, dir, "file://"+mirror)
	})
}

// copyDebs puts what debootstrap has fetched where the mirror had it: by its notes of addresses and of files.
func copyDebs(work, dir, mirror string) error {
	files, err := notes(filepath.Join(work, "debootstrap/debpaths"))
	if err != nil {
		return err
	}
	addresses, err := notes(filepath.Join(work, "debootstrap/deburis"))
	if err != nil {
		return err
	}
	for name, address := range addresses {
		rest, ok := strings.CutPrefix(address, strings.TrimSuffix(mirror, "/")+"/")
		if !ok {
			return fmt.Errorf("%s is not from %s", address, mirror)
		}
		if err := copyFile(filepath.Join(work, files[name]), filepath.Join(dir, rest)); err != nil {
			return err
		}
	}
	return nil
}

// notes reads lines of which the first word is a package's name; it returns the last one.
func notes(file string) (map[string]string, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	list := map[string]string{}
	for s := bufio.NewScanner(bytes.NewReader(raw)); s.Scan(); {
		if w := strings.Fields(s.Text()); len(w) > 1 {
			list[w[0]] = w[len(w)-1]
		}
	}
	return list, nil
}

// fetchSuite fetches the release file and the lists that it names.
func fetchSuite(ctx context.Context, mirror, dir, suite string) error {
	base := filepath.Join("dists", suite)
	lists := filepath.Join(base, "main/binary-"+runtime.GOARCH) // as Debian calls what kist runs on
	for _, name := range []string{base + "/InRelease", lists + "/Packages.gz", lists + "/Packages.xz", filepath.Join(base, "main/i18n/Translation-en.xz")} {
		raw, err := download(ctx, mirror+"/"+name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(raw)
		for _, to := range []string{name, filepath.Join(filepath.Dir(name), "by-hash/SHA256", hex.EncodeToString(sum[:]))} {
			at := filepath.Join(dir, to)
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(at, raw, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

func download(ctx context.Context, url string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch %s: %s", url, resp.Status)
	}
	return io.ReadAll(resp.Body)
}
