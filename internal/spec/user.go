package spec

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// User is a resolved user.
type User struct {
	UID, GID uint32
	Groups   []uint32
	Home     string
}

// oci has the primary group among the additional ones: without it, setgroups would take from the process a group that a
// file's "deny to this group" relies on (CVE-2022-36109).
func (u User) oci(umask *uint32) specs.User {
	out := specs.User{UID: u.UID, GID: u.GID, AdditionalGids: make([]uint32, 0, 1+len(u.Groups))}
	out.AdditionalGids = append(out.AdditionalGids, u.GID)
	for _, g := range u.Groups {
		if !slices.Contains(out.AdditionalGids, g) {
			out.AdditionalGids = append(out.AdditionalGids, g)
		}
	}
	if umask != nil {
		m := *umask
		out.Umask = &m
	}
	return out
}

// maxID is the largest user or group id that docker takes.
const maxID = 1<<31 - 1

// ResolveUser resolves docker's user syntax (name|uid[:group|gid]) and the --group-add list against the content of the
// image's /etc/passwd and /etc/group (either may be nil).
func ResolveUser(user string, groupAdd []string, passwd, group []byte) (User, error) {
	userPart, groupPart, _ := strings.Cut(user, ":")
	u, name, err := lookupUser(userPart, passwd)
	if err != nil {
		return User{}, err
	}
	if groupPart != "" {
		if u.GID, err = lookupGroup(groupPart, group); err != nil {
			return User{}, err
		}
	} else if name != "" {
		u.Groups = memberships(name, group)
	}
	for _, g := range groupAdd {
		gid, err := lookupGroup(g, group)
		if err != nil {
			return User{}, err
		}
		if !slices.Contains(u.Groups, gid) {
			u.Groups = append(u.Groups, gid)
		}
	}
	return u, nil
}

// lookupUser finds a user by name, or else by number; a number needs no entry. The name is that of the entry found.
func lookupUser(user string, passwd []byte) (u User, name string, err error) {
	uid, isID, inRange := parseID(user)
	for fields := range entries(passwd) {
		if len(fields) < 4 {
			continue
		}
		entryUID, ok1, in1 := parseID(fields[2])
		entryGID, ok2, in2 := parseID(fields[3])
		if !ok1 || !ok2 || !in1 || !in2 {
			continue
		}
		match := fields[0] == user || isID && inRange && entryUID == uid
		if user == "" {
			match = entryUID == 0
		}
		if !match {
			continue
		}
		u = User{UID: entryUID, GID: entryGID, Home: "/"}
		if len(fields) > 5 && fields[5] != "" {
			u.Home = fields[5]
		}
		return u, fields[0], nil
	}
	switch {
	case user == "":
		return User{Home: "/"}, "", nil
	case !isID:
		return User{}, "", tryInstead("--user with a number, or a name that is in the image's /etc/passwd",
			invalid("user-unknown", "unable to find user %s: no matching entries in passwd file", user))
	case !inRange:
		return User{}, "", invalid("user-range", "uids and gids must be in range 0-%d", maxID)
	}
	return User{UID: uid, Home: "/"}, "", nil
}

func lookupGroup(group string, file []byte) (uint32, error) {
	gid, isID, inRange := parseID(group)
	for fields := range entries(file) {
		if len(fields) < 3 {
			continue
		}
		entry, ok, in := parseID(fields[2])
		if !ok || !in {
			continue
		}
		if fields[0] == group || isID && inRange && entry == gid {
			return entry, nil
		}
	}
	switch {
	case !isID:
		return 0, invalid("group-unknown", "unable to find group %s: no matching entries in group file", group)
	case !inRange:
		return 0, invalid("user-range", "uids and gids must be in range 0-%d", maxID)
	}
	return gid, nil
}

// memberships are the groups that list the user as a member.
func memberships(name string, file []byte) []uint32 {
	var out []uint32
	for fields := range entries(file) {
		if len(fields) < 4 {
			continue
		}
		gid, ok, in := parseID(fields[2])
		if !ok || !in || slices.Contains(out, gid) {
			continue
		}
		for member := range strings.SplitSeq(fields[3], ",") {
			if member == name {
				out = append(out, gid)
				break
			}
		}
	}
	return out
}

// entries yields the fields of each line of a passwd or group file. What is not an entry is passed over.
func entries(file []byte) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		for line := range bytes.Lines(file) {
			l := strings.TrimSpace(string(line))
			if l == "" || l[0] == '#' {
				continue
			}
			if !yield(strings.Split(l, ":")) {
				return
			}
		}
	}
}

// parseID tells whether s is a number at all, and whether it is one that can be a user or group.
func parseID(s string) (id uint32, isID, inRange bool) {
	if s == "" {
		return 0, false, false
	}
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > maxID {
		return 0, true, false
	}
	return uint32(n), true, true
}
