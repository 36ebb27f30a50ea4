package debian

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/containerd/errdefs"
)

// Keyring holds the keys by which an archive is believed.
type Keyring struct{ keys openpgp.EntityList }

// maxSignatures bounds the signatures of one file; archives have up to four.
const maxSignatures = 32

// Add reads a keyring file, binary or armored.
func (k *Keyring) Add(raw []byte) error {
	var read openpgp.EntityList
	var err error
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("-----BEGIN PGP")) {
		read, err = openpgp.ReadArmoredKeyRing(bytes.NewReader(raw))
	} else {
		read, err = openpgp.ReadKeyRing(bytes.NewReader(raw))
	}
	if err != nil && len(read) == 0 {
		return fmt.Errorf("read keyring: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	k.keys = append(k.keys, read...)
	return nil
}

// Only keeps the keys with one of the fingerprints, as Signed-By may give them: 40 or 64 hexadecimal digits, with a ! behind
// them if subkeys do not count.
func (k *Keyring) Only(fingerprints []string) *Keyring {
	kept := new(Keyring)
	for _, e := range k.keys {
		for _, f := range fingerprints {
			if hasFingerprint(e, strings.TrimSuffix(f, "!")) {
				kept.keys = append(kept.keys, e)
				break
			}
		}
	}
	return kept
}

func hasFingerprint(e *openpgp.Entity, f string) bool {
	if strings.EqualFold(fmt.Sprintf("%x", e.PrimaryKey.Fingerprint), f) {
		return true
	}
	for _, s := range e.Subkeys {
		if strings.EqualFold(fmt.Sprintf("%x", s.PublicKey.Fingerprint), f) {
			return true
		}
	}
	return false
}

// SignatureError says why no signature of a file is believed.
type SignatureError struct {
	// Keys are the ids or fingerprints of the keys that signed it.
	Keys []string
	// Known says that one of them is in the keyring: the signature is wrong then, or the key has expired or was revoked.
	Known bool
	Err   error
}

func (e *SignatureError) Error() string {
	switch {
	case len(e.Keys) == 0:
		return "it is not signed"
	case !e.Known:
		return "it is signed by " + strings.Join(e.Keys, ", ") + ", which are not in the keyring"
	}
	return fmt.Sprintf("its signature by %s is not valid: %v", strings.Join(e.Keys, ", "), e.Err)
}

// Unwrap gives the cause and the class.
func (e *SignatureError) Unwrap() []error { return []error{e.Err, errdefs.ErrPermissionDenied} }

// Signer names who signed.
type Signer struct {
	// Fingerprint of the primary key, in hexadecimal digits.
	Fingerprint string
	Name        string
}

var errUnknownKey = errors.New("the key is not known")

// Verify checks a text that is signed in place (InRelease) and returns what is signed, and by whom. At is the time for which
// keys must be valid; zero means that of the signature.
func (k *Keyring) Verify(signed []byte, at time.Time) ([]byte, Signer, error) {
	block, _ := clearsign.Decode(signed)
	if block == nil {
		return nil, Signer{}, &SignatureError{Err: errors.New("no signed text")}
	}
	s, err := k.check(block.Bytes, block.ArmoredSignature.Body, at)
	return block.Plaintext, s, err
}

// VerifyDetached checks a signature that is a file of its own (Release.gpg).
func (k *Keyring) VerifyDetached(text, signature []byte, at time.Time) (Signer, error) {
	r := io.Reader(bytes.NewReader(signature))
	if bytes.Contains(signature, []byte("-----BEGIN PGP SIGNATURE")) {
		block, err := armor.Decode(r)
		if err != nil {
			return Signer{}, &SignatureError{Err: fmt.Errorf("read signature: %w", err)}
		}
		r = block.Body
	}
	return k.check(text, r, at)
}

// Plaintext is the text of a file signed in place, without a check.
func Plaintext(signed []byte) []byte {
	if block, _ := clearsign.Decode(signed); block != nil {
		return block.Plaintext
	}
	return signed
}

// check looks for one signature that is good.
func (k *Keyring) check(text []byte, signatures io.Reader, at time.Time) (Signer, error) {
	failed := &SignatureError{Err: errUnknownKey}
	packets := packet.NewReader(signatures)
	for range maxSignatures {
		p, err := packets.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Signer{}, &SignatureError{Keys: failed.Keys, Known: failed.Known, Err: fmt.Errorf("read signature: %w", err)}
		}
		sig, ok := p.(*packet.Signature)
		if !ok {
			continue
		}
		s, err := k.checkOne(text, sig, at)
		if err == nil {
			return s, nil
		}
		failed.Keys = append(failed.Keys, issuer(sig))
		if !errors.Is(err, errUnknownKey) {
			failed.Known, failed.Err = true, err
		}
	}
	return Signer{}, failed
}

func issuer(s *packet.Signature) string {
	switch {
	case len(s.IssuerFingerprint) > 0:
		return fmt.Sprintf("%X", s.IssuerFingerprint)
	case s.IssuerKeyId != nil:
		return fmt.Sprintf("%016X", *s.IssuerKeyId)
	}
	return "an unnamed key"
}

// hashes are those that a signature may use: what can be forged is not among them.
var hashes = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}

func (k *Keyring) checkOne(text []byte, sig *packet.Signature, at time.Time) (Signer, error) {
	if sig.IssuerKeyId == nil || len(k.keys.KeysById(*sig.IssuerKeyId)) == 0 {
		return Signer{}, errUnknownKey
	}
	if at.IsZero() {
		at = sig.CreationTime
	}
	var raw bytes.Buffer
	if err := sig.Serialize(&raw); err != nil {
		return Signer{}, err
	}
	config := &packet.Config{Time: func() time.Time { return at }}
	e, err := openpgp.CheckDetachedSignatureAndHash(k.keys, bytes.NewReader(text), &raw, hashes, config)
	if err != nil {
		return Signer{}, err
	}
	s := Signer{Fingerprint: fmt.Sprintf("%X", e.PrimaryKey.Fingerprint)}
	if id := e.PrimaryIdentity(); id != nil {
		s.Name = id.Name
	}
	return s, nil
}
