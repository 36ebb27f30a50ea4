package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
)

// tlsConfig reads the certificates for one host. They are read for each session, so new ones need no restart.
func (c *Client) tlsConfig(host string, insecure bool) (*tls.Config, error) {
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		// A daemon's --insecure-registry and a loopback address mean that the user trusts the way there.
		InsecureSkipVerify: insecure, //nolint:gosec // see above
	}
	for _, dir := range c.o.CertDirs {
		if err := addCerts(config, filepath.Join(dir, certDirName(host))); err != nil {
			return nil, fmt.Errorf("certificates for %s: %w", host, err)
		}
	}
	return config, nil
}

// certDirName is the host's name as a file name: it comes from a reference, whose grammar has neither slashes nor dots
// alone, but mirrors come from a URL.
func certDirName(host string) string {
	if host == dockerHost {
		return dockerRegistry
	}
	return filepath.Base(filepath.Clean("/" + host))
}

func addCerts(config *tls.Config, dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		switch filepath.Ext(name) {
		case ".crt":
			if err := addCA(config, name); err != nil {
				return err
			}
		case ".cert":
			key := strings.TrimSuffix(name, ".cert") + ".key"
			pair, err := tls.LoadX509KeyPair(name, key)
			if err != nil {
				return fmt.Errorf("client certificate %s with key %s: %w: %w", name, key, err, errdefs.ErrFailedPrecondition)
			}
			config.Certificates = append(config.Certificates, pair)
		}
	}
	return nil
}

func addCA(config *tls.Config, name string) error {
	raw, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if config.RootCAs == nil {
		config.RootCAs, err = x509.SystemCertPool()
		if err != nil {
			config.RootCAs = x509.NewCertPool()
		}
	}
	if !config.RootCAs.AppendCertsFromPEM(raw) {
		return fmt.Errorf("%s holds no certificate: %w", name, errdefs.ErrFailedPrecondition)
	}
	return nil
}
