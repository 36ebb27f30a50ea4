package test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

// credentials are a directory as docker's clients and daemons want it: ca.pem, cert.pem and key.pem.
type credentials struct {
	dir  string
	pair tls.Certificate
}

func writeCredentials(t *testing.T, dir string, ca, cert *x509.Certificate, key *ecdsa.PrivateKey) credentials {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"ca.pem": {Type: "CERTIFICATE", Bytes: ca.Raw}, "cert.pem": {Type: "CERTIFICATE", Bytes: cert.Raw}, "key.pem": {Type: "PRIVATE KEY", Bytes: raw},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return credentials{dir, tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}
}

// TestMutualTLS serves TCP with certificates on both sides, and has clients with and without come.
func TestMutualTLS(t *testing.T) {
	if _, err := os.Stat(filepath.Join(testbed.Bin(), "kist")); err != nil {
		t.Skip("skip: bin/kist is not built; run make build")
	}
	h := testbed.NewHost(t)
	authority := func(name string) (*x509.Certificate, *ecdsa.PrivateKey) {
		return certificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	}
	client := func(name string, ca *x509.Certificate, key *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		return certificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca, key)
	}
	ca, caKey := authority("ours")
	foreign, foreignKey := authority("theirs")
	leaf, leafKey := certificate(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "daemon"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, caKey)
	daemon := writeCredentials(t, filepath.Join(h.Dir, "daemon"), ca, leaf, leafKey)
	cert, key := client("alice", ca, caKey)
	alice := writeCredentials(t, filepath.Join(h.Dir, "alice"), ca, cert, key)
	cert, key = client("mallory", foreign, foreignKey)
	mallory := writeCredentials(t, filepath.Join(h.Dir, "mallory"), ca, cert, key)

	const address = "127.0.0.1:2376"
	h.StartDaemon("-H", "unix://"+h.Socket(), "-H", "tcp://"+address, "--tlsverify",
		"--tlscacert", daemon.dir+"/ca.pem", "--tlscert", daemon.dir+"/cert.pem", "--tlskey", daemon.dir+"/key.pem")
	h.Run("kist", "load", "-q", "-i", testbed.Recipes()["busybox"].MustArchive(t))
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	ask := func(scheme string, certs ...tls.Certificate) (int, error) {
		transport := &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certs, MinVersion: tls.VersionTLS12},
			DialContext: func(ctx context.Context, _, _ string) (c net.Conn, err error) {
				err = h.Inside(func() error {
					var d net.Dialer
					c, err = d.DialContext(ctx, "tcp", address)
					return err
				})
				return c, err
			},
		}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get(scheme + "://" + address + "/_ping")
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, err
	}
	if status, err := ask("https", alice.pair); status != 200 || err != nil {
		t.Errorf("with a certificate: %d, %v", status, err)
	}
	if status, err := ask("https"); err == nil {
		t.Errorf("without a certificate: %d", status)
	}
	if status, err := ask("https", mallory.pair); err == nil {
		t.Errorf("with a certificate of another authority: %d", status)
	}
	if status, err := ask("http"); err == nil && status != 400 {
		t.Errorf("without TLS: %d", status)
	}
	docker := testbed.Tool("docker")
	if docker == "" {
		docker = "docker"
	}
	if _, err := h.Try(docker, "--version"); err != nil {
		t.Skip("skip: no docker command to try the certificates with")
	}
	by := func(c credentials, input string, args ...string) (string, error) {
		cmd := h.Command(docker, args...)
		cmd.Env = append(cmd.Environ(), "DOCKER_HOST=tcp://"+address, "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH="+c.dir)
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := by(mallory, "", "ps"); err == nil {
		t.Errorf("docker ps with a certificate of another authority: %s", out)
	}
	if out, err := by(alice, "hello", "run", "--rm", "-i", busybox, "sh", "-c", "cat; exit 7"); out != "hello" || err == nil || err.Error() != "exit status 7" {
		t.Errorf("docker run: %q, %v", out, err)
	}
	// More than all buffers hold together, both ways, and a half-close between.
	sent := strings.Repeat("0123456789abcde\n", 1<<17)
	if out, err := by(alice, sent, "run", "--rm", "-i", busybox, "cat"); out != sent || err != nil {
		t.Errorf("docker run cat: %d of %d bytes, %v", len(out), len(sent), err)
	}
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(h.PID()), "root", h.Dir, "data", "access.log"))
	if err != nil || !bytes.Contains(raw, []byte(`"certificate":"CN=alice"`)) {
		t.Errorf("the log of calls does not tell of alice: %s, %v", raw, err)
	}
}
