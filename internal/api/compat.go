package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/engine"
)

// decodeCreate reads the body of a create request, in the newest shape or in one of an old version.
func decodeCreate(v version, raw []byte) (container.CreateRequest, error) {
	var body struct {
		container.CreateRequest
		MacAddress string // Of the container as a whole: until API 1.51.
	}
	err := json.Unmarshal(raw, &body)
	if err != nil {
		raw, ok := evenOut(raw)
		if ok {
			err = json.Unmarshal(raw, &body)
		}
	}
	if err != nil {
		return container.CreateRequest{}, fmt.Errorf("invalid JSON in the request: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	req := body.CreateRequest
	if req.Config == nil {
		return req, fmt.Errorf("config cannot be empty in order to create a container: %w", errdefs.ErrInvalidArgument)
	}
	if req.HostConfig == nil {
		req.HostConfig = new(container.HostConfig)
	}
	if err := asOf(v, &req); err != nil {
		return req, err
	}
	if body.MacAddress != "" && v < 52 {
		return req, setMAC(&req, body.MacAddress)
	}
	return req, nil
}

// setMAC moves a container-wide MAC address to the endpoint of the container's network, where newer versions have it.
func setMAC(req *container.CreateRequest, mac string) error {
	var hw network.HardwareAddr
	if err := hw.UnmarshalText([]byte(mac)); err != nil {
		return fmt.Errorf("invalid MAC address %q: %w: %w", mac, err, errdefs.ErrInvalidArgument)
	}
	if req.NetworkingConfig == nil {
		req.NetworkingConfig = new(network.NetworkingConfig)
	}
	if req.NetworkingConfig.EndpointsConfig == nil {
		req.NetworkingConfig.EndpointsConfig = map[string]*network.EndpointSettings{}
	}
	name := req.HostConfig.NetworkMode.NetworkName()
	if name == "" {
		name = network.NetworkBridge
	}
	ep := req.NetworkingConfig.EndpointsConfig[name]
	if ep == nil {
		ep = new(network.EndpointSettings)
		req.NetworkingConfig.EndpointsConfig[name] = ep
	}
	if len(ep.MacAddress) == 0 {
		ep.MacAddress = hw
	}
	return nil
}

// evenOut rewrites what old clients send and today's types refuse: a command that is one string instead of a list.
func evenOut(raw []byte) ([]byte, bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return nil, false
	}
	changed := false
	for _, key := range []string{"Cmd", "Entrypoint"} {
		var one string
		if json.Unmarshal(fields[key], &one) == nil && len(fields[key]) > 0 && fields[key][0] == '"' {
			list, err := json.Marshal([]string{one})
			if err != nil {
				return nil, false
			}
			fields[key], changed = list, true
		}
	}
	if !changed {
		return nil, false
	}
	out, err := json.Marshal(fields)
	return out, err == nil
}

// legacyNetwork are the fields of the default network's endpoint that containers' inspect repeated until API 1.51.
type legacyNetwork struct {
	Bridge                 string
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []string
	SecondaryIPv6Addresses []string
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
}

// inspectFor shapes an inspect answer as the version has it.
func inspectFor(v version, resp *engine.Inspection) any {
	if v >= 52 || resp.NetworkSettings == nil {
		return resp
	}
	type settings struct {
		*container.NetworkSettings
		legacyNetwork
	}
	if v < 48 {
		resp.ImageManifestDescriptor = nil
	}
	if v < 45 {
		resp.NetworkSettings = withShortAlias(resp)
	}
	old := settings{NetworkSettings: resp.NetworkSettings}
	if ep := resp.NetworkSettings.Networks[network.NetworkBridge]; ep != nil {
		old.legacyNetwork = legacyNetwork{
			EndpointID: ep.EndpointID, Gateway: text(ep.Gateway), IPAddress: text(ep.IPAddress), IPPrefixLen: ep.IPPrefixLen,
			IPv6Gateway: text(ep.IPv6Gateway), GlobalIPv6Address: text(ep.GlobalIPv6Address),
			GlobalIPv6PrefixLen: ep.GlobalIPv6PrefixLen, MacAddress: ep.MacAddress.String(),
		}
	}
	return struct {
		*engine.Inspection
		NetworkSettings settings
	}{resp, old}
}

// withShortAlias adds the short id, and the host name, to the aliases on networks of users.
func withShortAlias(resp *engine.Inspection) *container.NetworkSettings {
	s := *resp.NetworkSettings
	s.Networks = maps.Clone(s.Networks)
	for name, ep := range s.Networks {
		if ep == nil || !container.NetworkMode(name).IsUserDefined() {
			continue
		}
		more := *ep
		more.Aliases = slices.Clone(ep.Aliases)
		for _, alias := range []string{resp.ID[:min(12, len(resp.ID))], resp.Config.Hostname} {
			if alias != "" && !slices.Contains(more.Aliases, alias) {
				more.Aliases = append(more.Aliases, alias)
			}
		}
		s.Networks[name] = &more
	}
	return &s
}

// listedFor takes from a list of containers what the version did not have.
func listedFor(v version, list []engine.Summary) []engine.Summary {
	if v >= 52 {
		return list
	}
	for i := range list {
		list[i].Health = nil
		if v < 48 {
			list[i].ImageManifestDescriptor = nil
		}
		if v < 46 {
			list[i].HostConfig.Annotations = nil
		}
	}
	return list
}

func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// legacyEvent adds the fields that events had until API 1.51.
type legacyEvent struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
}
