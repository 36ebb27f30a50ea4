package fileop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

const (
	passwdFile = "/etc/passwd"
	groupFile  = "/etc/group"
	// mostUsers bounds the files that tell users.
	mostUsers = 10 << 20
)

// owner is whom files shall belong to.
type owner struct{ uid, gid int }

// ownerOf is the owner that an action wants; nil for none.
func ownerOf(a *pb.FileAction) *pb.ChownOpt {
	switch x := a.Action.(type) {
	case *pb.FileAction_Copy:
		return x.Copy.GetOwner()
	case *pb.FileAction_Mkdir:
		return x.Mkdir.GetOwner()
	case *pb.FileAction_Mkfile:
		return x.Mkfile.GetOwner()
	case *pb.FileAction_Symlink:
		return x.Symlink.GetOwner()
	}
	return nil
}

// owner resolves names by the files of the inputs that they come with; a name that is not known there is root, as in
// BuildKit. Nil means that files keep the owner that they have.
func (r *run) owner(ctx context.Context, opt *pb.ChownOpt) (*owner, error) {
	if opt == nil {
		return nil, nil //nolint:nilnil // none is wanted
	}
	o := new(owner)
	switch u := opt.GetUser().GetUser().(type) {
	case *pb.UserOpt_ByName:
		raw, err := r.userFile(ctx, u.ByName.Input, passwdFile)
		if err != nil {
			return nil, err
		}
		users, err := user.ParsePasswdFilter(bytes.NewReader(raw), func(x user.User) bool { return x.Name == u.ByName.Name })
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", passwdFile, err)
		}
		if len(users) > 0 {
			o.uid, o.gid = users[0].Uid, users[0].Gid
		}
	case *pb.UserOpt_ByID:
		o.uid, o.gid = int(u.ByID), int(u.ByID)
	}
	switch g := opt.GetGroup().GetUser().(type) {
	case *pb.UserOpt_ByName:
		raw, err := r.userFile(ctx, g.ByName.Input, groupFile)
		if err != nil {
			return nil, err
		}
		groups, err := user.ParseGroupFilter(bytes.NewReader(raw), func(x user.Group) bool { return x.Name == g.ByName.Name })
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", groupFile, err)
		}
		if len(groups) > 0 {
			o.gid = groups[0].Gid
		}
	case *pb.UserOpt_ByID:
		o.gid = int(g.ByID)
	}
	return o, nil
}

// userFile reads a file that tells users or groups from an input or the result of an action; one that is not there is
// empty.
func (r *run) userFile(ctx context.Context, input int64, name string) ([]byte, error) {
	src, err := r.source(ctx, int(input))
	if err != nil {
		return nil, err
	}
	var root *sys.Root
	if src.Local != nil {
		root, err = sys.OpenRoot(src.Local.Dir)
	} else {
		root, err = r.o.layers.OpenStack(src.Layers)
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	raw, err := root.ReadFile(name, mostUsers)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find the owner's number: %w", err)
	}
	return raw, nil
}
