package debian

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/containerd/errdefs"
)

var signed = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// newKey makes a key that is valid for a week.
func newKey(t testing.TB, name string) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity(name, "", name+"@example.org", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: 7 * 24 * 3600, Time: func() time.Time { return signed.Add(-time.Hour) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func public(t testing.TB, armored bool, keys ...*openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	w := io.Writer(&b)
	var end io.Closer
	if armored {
		a, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
		if err != nil {
			t.Fatal(err)
		}
		w, end = a, a
	}
	for _, k := range keys {
		if err := k.Serialize(w); err != nil {
			t.Fatal(err)
		}
	}
	if end != nil {
		_ = end.Close()
	}
	return b.Bytes()
}

func clear(t testing.TB, text string, keys ...*openpgp.Entity) []byte {
	t.Helper()
	var private []*packet.PrivateKey
	for _, k := range keys {
		private = append(private, k.PrivateKey)
	}
	var b bytes.Buffer
	w, err := clearsign.EncodeMulti(&b, private, &packet.Config{Time: func() time.Time { return signed }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestVerify(t *testing.T) {
	a, b, stranger := newKey(t, "a"), newKey(t, "b"), newKey(t, "stranger")
	const text = "Suite: x\n- dashes\nlast\n"
	good := clear(t, text, a)
	ring := func(raw []byte) *Keyring {
		k := new(Keyring)
		if err := k.Add(raw); err != nil {
			t.Fatal(err)
		}
		return k
	}
	soon, late := signed.Add(time.Hour), signed.Add(30*24*time.Hour)
	for _, c := range []struct {
		name    string
		in      []byte
		keys    []byte
		at      time.Time
		good    bool
		missing bool
	}{
		{"good", good, public(t, false, b, a), soon, true, false},
		{"armored keyring", good, public(t, true, a), soon, true, false},
		{"one of two is known", clear(t, text, stranger, a), public(t, false, a), soon, true, false},
		{"nobody is known", clear(t, text, stranger), public(t, false, a, b), soon, false, true},
		{"the key has expired", good, public(t, false, a), late, false, false},
		{"it has, but not when it signed", good, public(t, false, a), time.Time{}, true, false},
		{"changed", bytes.Replace(good, []byte("Suite: x"), []byte("Suite: y"), 1), public(t, false, a), soon, false, false},
		{"not signed", []byte(text), public(t, false, a), soon, false, false},
		{"something before it", append([]byte("Suite: evil\n"), good...), public(t, false, a), soon, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, who, err := ring(c.keys).Verify(c.in, c.at)
			if c.good {
				if err != nil || strings.TrimSpace(string(got)) != strings.TrimSpace(text) || !strings.Contains(who.Name, "a@example.org") {
					t.Errorf("%q %+v %v", got, who, err)
				}
				return
			}
			var sig *SignatureError
			if !errors.As(err, &sig) || !errdefs.IsPermissionDenied(err) {
				t.Fatalf("%q, %v", got, err)
			}
			if c.missing && (sig.Known || len(sig.Keys) != 1 || sig.Keys[0] != fmt.Sprintf("%X", stranger.PrimaryKey.Fingerprint)) {
				t.Errorf("%+v", sig)
			}
		})
	}
	if n := len(ring(public(t, false, a, b)).Only([]string{fmt.Sprintf("%x!", b.PrimaryKey.Fingerprint)}).keys); n != 1 {
		t.Error(n, "keys with that fingerprint")
	}
	if err := new(Keyring).Add([]byte("no keyring")); err == nil {
		t.Error("rubbish is a keyring")
	}
}

func TestVerifyDetached(t *testing.T) {
	a := newKey(t, "a")
	k := new(Keyring)
	if err := k.Add(public(t, false, a)); err != nil {
		t.Fatal(err)
	}
	config := &packet.Config{Time: func() time.Time { return signed }}
	var plain, armored bytes.Buffer
	if err := errors.Join(openpgp.DetachSign(&plain, a, strings.NewReader("text\n"), config), openpgp.ArmoredDetachSign(&armored, a, strings.NewReader("text\n"), config)); err != nil {
		t.Fatal(err)
	}
	for _, sig := range [][]byte{plain.Bytes(), armored.Bytes()} {
		if _, err := k.VerifyDetached([]byte("text\n"), sig, signed); err != nil {
			t.Error(err)
		}
		if _, err := k.VerifyDetached([]byte("other\n"), sig, signed); err == nil {
			t.Error("a signature of another text is believed")
		}
	}
	for _, sig := range []string{"", "rubbish", "-----BEGIN PGP SIGNATURE-----\n\nrubbish"} {
		if _, err := k.VerifyDetached([]byte("text\n"), []byte(sig), signed); err == nil {
			t.Errorf("%q is a signature", sig)
		}
	}
}

func FuzzVerify(f *testing.F) {
	a := newKey(f, "a")
	good := clear(f, "Suite: x\n", a)
	k := new(Keyring)
	if err := k.Add(public(f, false, a)); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, in []byte) {
		if text, _, err := k.Verify(in, signed); err == nil && strings.TrimSpace(string(text)) != "Suite: x" {
			t.Errorf("%q is believed", text)
		}
	})
}
