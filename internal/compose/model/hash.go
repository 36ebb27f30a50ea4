package model

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// keyOrder is the order of a service's keys when it is hashed. It was that of the fields in the first version that hashed
// services, and is kept, so that a container's hash stays the same from version to version. Keys that are not listed follow,
// sorted.
var keyOrder = strings.Fields(`
profiles annotations attach build develop blkio_config cap_add cap_drop cgroup_parent cgroup cpu_count cpu_percent cpu_period
cpu_quota cpu_rt_period cpu_rt_runtime cpus cpuset cpu_shares command configs container_name credential_spec depends_on deploy
device_cgroup_rules devices dns dns_opt dns_search dockerfile domainname entrypoint provider environment env_file expose extends
external_links extra_hosts group_add gpus hostname healthcheck image init ipc isolation labels label_file links logging
log_driver log_opt mem_limit mem_reservation memswap_limit mem_swappiness mac_address models net network_mode networks
oom_kill_disable oom_score_adj pid pids_limit platform ports privileged pull_policy read_only restart runtime scale secrets
security_opt shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits use_api_socket user
userns_mode uts volume_driver volumes volumes_from working_dir pre_start post_start pre_stop pull_refresh_after umask`)

// ServiceHash is the hash of what a container is made of. What does not change the container is left out: how its image is
// got, how many there are, and what they wait for.
func ServiceHash(s types.ServiceConfig) (string, error) {
	s.Build, s.PullPolicy, s.Scale, s.DependsOn, s.Profiles = nil, "", nil, nil, nil
	if s.Deploy != nil {
		d := *s.Deploy
		d.Replicas = nil
		s.Deploy = &d
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("hash service %s: %w", s.Name, err)
	}
	ordered, err := inOrder(raw, keyOrder)
	if err != nil {
		return "", fmt.Errorf("hash service %s: %w", s.Name, err)
	}
	return sum(ordered), nil
}

// NetworkHash is the same for a network.
func NetworkHash(n *types.NetworkConfig) (string, error) {
	raw, err := json.Marshal(n)
	if err != nil {
		return "", fmt.Errorf("hash network %s: %w", n.Name, err)
	}
	return sum(raw), nil
}

// VolumeHash is the same for a volume.
func VolumeHash(v types.VolumeConfig) (string, error) {
	if v.Driver == "" {
		v.Driver = "local"
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("hash volume %s: %w", v.Name, err)
	}
	return sum(raw), nil
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// inOrder writes an object's keys in an order.
func inOrder(raw []byte, order []string) ([]byte, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil {
		return nil, err
	}
	listed := slices.DeleteFunc(slices.Clone(order), func(k string) bool { _, ok := keys[k]; return !ok })
	rest := slices.DeleteFunc(slices.Sorted(maps.Keys(keys)), func(k string) bool { return slices.Contains(order, k) })
	var b bytes.Buffer
	for i, k := range append(listed, rest...) {
		b.WriteByte("{,"[min(i, 1)])
		name, err := json.Marshal(k)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(keys[k])
	}
	if b.Len() == 0 {
		b.WriteByte('{')
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
