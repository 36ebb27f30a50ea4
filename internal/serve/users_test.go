package serve

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/crypto/bcrypt"

	"github.com/kistdev/kist/internal/servemsg"
)

func TestPasswords(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, servemsg.Request{Htpasswd: []byte("# people\nanna:" + string(hash) + "\n")})
	img := hostImage(t, 1)
	if err := remote.Write(b.ref(t, "a:1"), img); err == nil {
		t.Error("pushed without a password")
	}
	for password, ok := range map[string]bool{"secret": true, "wrong": false, "": false} {
		err := remote.Write(b.ref(t, "a:1"), img, remote.WithAuth(&authn.Basic{Username: "anna", Password: password}))
		if (err == nil) != ok {
			t.Errorf("%q: %v", password, err)
		}
	}
	if err := remote.Write(b.ref(t, "a:1"), img, remote.WithAuth(&authn.Basic{Username: "nobody", Password: "secret"})); err == nil {
		t.Error("a name that is not in the file")
	}
	for _, bad := range []string{"x", "a:b", "#\n", "a:$apr1$x"} {
		if _, err := parseUsers([]byte(bad)); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestReadOnlyAndOpenDoors(t *testing.T) {
	b := newBench(t, servemsg.Request{ReadOnly: true})
	if err := remote.Write(b.ref(t, "a:1"), hostImage(t, 1)); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Error(err)
	}
	for addr, ok := range map[string]bool{"0.0.0.0:0": false, ":0": false, "127.0.0.1:0": true, "[::1]:0": true, "localhost:0": true, "nonsense": false} {
		s := &Server{o: Options{Request: servemsg.Request{Address: addr}}}
		if err := s.check(); (err == nil) != ok {
			t.Errorf("%s: %v", addr, err)
		}
	}
	s := &Server{o: Options{Request: servemsg.Request{Address: ":0", Open: true}}}
	if err := s.check(); err != nil {
		t.Error(err)
	}
}

func TestTLS(t *testing.T) {
	cert, key := selfSigned(t)
	b := newBench(t, servemsg.Request{Cert: cert, Key: key})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("https://" + b.Address() + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
	if _, err := Listen(b.store, Options{Request: servemsg.Request{Address: "127.0.0.1:0", Cert: cert}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a certificate without its key: %v", err)
	}
	if _, err := Listen(b.store, Options{Request: servemsg.Request{Address: b.Address()}}); !errdefs.IsConflict(err) {
		t.Errorf("an address that is taken: %v", err)
	}
}

func selfSigned(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}
