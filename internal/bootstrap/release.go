package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/debian"
	"github.com/kistdev/kist/internal/fault"
)

// maxRelease bounds a release file; Debian's has 150 kB.
const maxRelease = 16 << 20

// fetchRelease gets the release file and believes it if it is signed. It reports false for an optional archive that is not
// there.
func (j *job) fetchRelease(ctx context.Context, a *archive) (bool, error) {
	text, err := j.releaseText(ctx, a)
	if missing(err) && a.optional {
		return false, nil
	}
	if missing(err) {
		return false, j.noSuite(a, err)
	}
	if err != nil {
		return false, err
	}
	if a.release, err = debian.ParseRelease(text); err != nil {
		return false, fmt.Errorf("%s: %w", a.name(), err)
	}
	return true, j.checkRelease(a)
}

func missing(err error) bool { return errdefs.IsNotFound(err) || errors.Is(err, fs.ErrNotExist) }

// releaseText is what is signed.
func (j *job) releaseText(ctx context.Context, a *archive) ([]byte, error) {
	signed, err := j.net.small(ctx, a.inSuite("InRelease"), maxRelease)
	if err == nil {
		if j.unsigned(a) {
			return debian.Plaintext(signed), nil
		}
		k, where, err := j.keys(a)
		if err != nil {
			return nil, err
		}
		text, signer, err := k.Verify(signed, j.signedAt(a))
		a.signer = signer
		return text, j.explainSignature(a, where, err)
	}
	if !missing(err) {
		return nil, err
	}
	text, err := j.net.small(ctx, a.inSuite("Release"), maxRelease)
	if err != nil || j.unsigned(a) {
		return text, err
	}
	signature, err := j.net.small(ctx, a.inSuite("Release.gpg"), maxRelease)
	if err != nil && !missing(err) {
		return nil, err
	}
	k, where, err := j.keys(a)
	if err != nil {
		return nil, err
	}
	a.signer, err = k.VerifyDetached(text, signature, j.signedAt(a))
	return text, j.explainSignature(a, where, err)
}

func (j *job) unsigned(a *archive) bool {
	if j.req.Unsigned || a.source.Trusted {
		j.note("warning: %s is believed without a look at its signature", a.name())
		return true
	}
	return false
}

// signedAt is the time for which keys must be valid: now, but for archives of the past that of their signature.
func (j *job) signedAt(a *archive) time.Time {
	if j.past(a) {
		return time.Time{}
	}
	return time.Now()
}

// past says whether an archive is one of the past, or that was said of it.
func (j *job) past(a *archive) bool { return j.req.Stale || strings.HasPrefix(a.uri.Host, "snapshot.") }

// stale says whether a list may be too old.
func (j *job) stale(a *archive) bool {
	return j.past(a) || a.source.NoValidUntil || j.apt.off("Acquire::Check-Valid-Until")
}

// keys are those by which an archive is believed, and where they are from.
func (j *job) keys(a *archive) (*debian.Keyring, string, error) {
	k := new(debian.Keyring)
	if len(j.req.Keyrings) > 0 {
		for _, raw := range j.req.Keyrings {
			if err := k.Add(raw); err != nil {
				return nil, "", invalid("cannot use the keyring", err.Error(), "--keyring with a file that gpg --export has written")
			}
		}
		return k, "the given keyring", nil
	}
	if a.source.SignedKey != "" {
		return k, "its source's own key", k.Add([]byte(a.source.SignedKey))
	}
	var files, prints []string
	for _, by := range a.source.SignedBy {
		if filepath.IsAbs(by) {
			files = append(files, filepath.Join(j.apt.root, by))
		} else {
			prints = append(prints, by)
		}
	}
	if len(files) > 0 {
		return keyring(files, j.note), strings.Join(files, ", "), nil
	}
	trusted := j.apt.trusted(j.target.distro)
	k = keyring(trusted, j.note)
	if len(prints) > 0 {
		return k.Only(prints), "apt's keys " + strings.Join(prints, ", "), nil
	}
	return k, "apt's keyrings (" + filepath.Join(j.apt.root, "etc/apt/trusted.gpg.d") + ", " + filepath.Join(j.apt.root, "usr/share/keyrings") + ")", nil
}

// explainSignature says whose key is missing, and how to get it.
func (j *job) explainSignature(a *archive, where string, err error) error {
	var sig *debian.SignatureError
	if !errors.As(err, &sig) {
		return err
	}
	f := &fault.Error{
		Code: "bootstrap-signature", What: "cannot believe " + a.name() + ": the key that signed it is not known here",
		Cause: fmt.Sprintf("it is signed by %s, which is not in %s", strings.Join(sig.Keys, ", "), where), Class: errdefs.ErrPermissionDenied, Err: err,
	}
	d := j.target.distro
	switch {
	case sig.Known, len(sig.Keys) == 0:
		f.What = "cannot believe " + a.name() + ": it is not signed"
		if sig.Known {
			f.What = "cannot believe " + a.name() + ": its signature is not valid"
		}
		f.Cause = sig.Error()
		f.Try = "another --mirror; --no-check-signature believes anybody"
	case d.keyringPackage != "":
		f.Try = fmt.Sprintf("apt-get install %s (which has %s), or --keyring FILE", d.keyringPackage, d.keyring)
	default:
		f.Try = "--keyring FILE with the key of that name"
	}
	return f
}

// checkRelease refuses a release file that is another one than was asked for, or an old one.
func (j *job) checkRelease(a *archive) error {
	r := a.release
	if base, _, _ := strings.Cut(a.suite, "/"); r.Suite != a.suite && r.Codename != a.suite && r.Codename != base && r.Suite != base {
		return &fault.Error{
			Code: "bootstrap-suite", What: "cannot believe " + a.name() + ": it is another suite",
			Cause: fmt.Sprintf("its release file is that of %s (%s)", r.Suite, r.Codename), Class: errdefs.ErrFailedPrecondition,
			Try: "the suite by one of these names",
		}
	}
	if now := time.Now(); !r.ValidUntil.IsZero() && now.After(r.ValidUntil) && !j.stale(a) {
		return &fault.Error{
			Code: "bootstrap-stale", What: "cannot believe " + a.name() + ": it is too old",
			Cause: "its release file was valid until " + r.ValidUntil.Format(time.RFC3339) + ": the mirror has not been updated since, or somebody hides updates",
			Try:   "another --mirror; --no-check-valid-until takes it as it is", Class: errdefs.ErrFailedPrecondition,
		}
	}
	if len(r.Architectures) > 0 && !slices.Contains(r.Architectures, j.arch) {
		return &fault.Error{
			Code: "bootstrap-architecture", What: "there is no " + a.suite + " for " + j.arch + " at " + a.uri.Redacted(),
			Cause: "it has " + strings.Join(r.Architectures, ", "), Try: "--arch with one of these", Class: errdefs.ErrNotFound,
		}
	}
	return nil
}

// noSuite says that a suite is not there, and which ones may be meant.
func (j *job) noSuite(a *archive, err error) error {
	f := &fault.Error{
		Code: "bootstrap-suite", What: "there is no suite " + a.suite + " at " + a.uri.Redacted(), Class: errdefs.ErrNotFound, Err: err,
		Cause: "it has neither dists/" + a.suite + "/InRelease nor dists/" + a.suite + "/Release",
	}
	if near := j.target.distro.nearest(a.suite); len(near) > 0 && !slices.Contains(near, a.suite) {
		f.Cause += "; nearest: " + strings.Join(near, ", ")
		f.Try = "kist image bootstrap " + j.target.distro.name + ":" + near[0]
	} else {
		f.Try = "a suite that the mirror has, or another --mirror"
	}
	return f
}
