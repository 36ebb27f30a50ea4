package build

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/entitlements"
)

// allowed refuses what the client did not grant to the build.
func (j *job) allowed(end *vertex) error {
	var errs error
	each(end, map[*vertex]bool{}, func(v *vertex) {
		e := v.op.GetExec()
		if e == nil || errs != nil {
			return
		}
		if e.Network == pb.NetMode_HOST && !j.granted("network.host") {
			errs = notGranted(v, "network.host", "--allow network.host")
		}
		if e.Security == pb.SecurityMode_INSECURE && !j.granted("security.insecure") {
			errs = notGranted(v, "security.insecure", "--allow security.insecure")
		}
	})
	return errs
}

func (j *job) granted(what string) bool { return slices.Contains(j.req.Entitlements, what) }

// devices are those that the client grants to the build; nil for none.
func (j *job) devices() (*entitlements.DevicesConfig, error) {
	var all *entitlements.DevicesConfig
	for _, e := range j.req.Entitlements {
		key, rest, _ := strings.Cut(e, "=")
		if key != string(entitlements.EntitlementDevice) {
			continue
		}
		one, err := entitlements.ParseDevicesConfig(rest)
		if err == nil && all != nil {
			err = all.Merge(one)
			one = all
		}
		if err != nil {
			return nil, fmt.Errorf("the entitlement %s: %w: %w", e, err, errdefs.ErrInvalidArgument)
		}
		all = one
	}
	return all, nil
}
