package api

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// version is a version of Docker's API: 1.minor.
type version int

// The versions served. Docker has never changed the major version.
const (
	oldest version = 24
	newest version = 56
)

func (v version) String() string { return "1." + strconv.Itoa(int(v)) }

type versionKey struct{}

func withVersion(ctx context.Context, v version) context.Context {
	return context.WithValue(ctx, versionKey{}, v)
}

func versionOf(ctx context.Context) version {
	if v, ok := ctx.Value(versionKey{}).(version); ok {
		return v
	}
	return newest
}

// splitVersion takes "/v1.41" off a path. A path without a version means the newest one.
func splitVersion(path string) (version, string, error) {
	rest, ok := strings.CutPrefix(path, "/v")
	if !ok {
		return newest, path, nil
	}
	name, tail, _ := strings.Cut(rest, "/")
	major, minor, ok := strings.Cut(name, ".")
	if !ok {
		return newest, path, nil
	}
	maj, err1 := strconv.ParseUint(major, 10, 16)
	m, err2 := strconv.ParseUint(minor, 10, 16)
	if err1 != nil || err2 != nil {
		return newest, path, nil //nolint:nilerr // a path like /volumes.x
	}
	switch v := version(m); {
	case maj > 1 || v > newest:
		return 0, "", fmt.Errorf("client version %s is too new. Maximum supported API version is %s: %w", name, newest, errdefs.ErrInvalidArgument)
	case maj < 1 || v < oldest:
		return 0, "", fmt.Errorf("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version: %w",
			name, oldest, errdefs.ErrInvalidArgument)
	default:
		return v, "/" + tail, nil
	}
}
