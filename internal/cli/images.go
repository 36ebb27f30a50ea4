package cli

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/image"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// imageRow is a line of images.
type imageRow struct {
	Containers   string
	CreatedAt    string
	CreatedSince string
	Digest       string
	ID           string
	Repository   string
	SharedSize   string
	Size         string
	Tag          string
	UniqueSize   string
	VirtualSize  string
}

var imageHeaders = headers{
	"ID": "IMAGE ID", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "CreatedSince": "CREATED",
	"CreatedAt": "CREATED AT", "Size": "SIZE", "Containers": "CONTAINERS", "VirtualSize": "SIZE", "SharedSize": "SHARED SIZE",
	"UniqueSize": "UNIQUE SIZE",
}

const (
	imageTable       = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
	imageTableDigest = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
	imageRaw         = "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n"
	none             = "<none>"
)

func (a *app) imagesCommand() *cobra.Command {
	var (
		all, digests, noTrunc, quiet, tree bool
		format                             string
		filters                            filterFlag
	)
	c := &cobra.Command{Use: "images [OPTIONS] [NAME[:TAG]]", Args: between(0, 1)}
	f := c.Flags()
	f.BoolVarP(&all, "all", "a", false, "Also show images that are only steps of others")
	f.BoolVar(&digests, "digests", false, "Show digests")
	f.VarP(&filters, "filter", "f", "Show only what matches, as in dangling=true")
	f.StringVar(&format, "format", "", formatHelp)
	f.BoolVar(&noTrunc, "no-trunc", false, "Do not shorten anything")
	f.BoolVarP(&quiet, "quiet", "q", false, "Print ids only")
	f.BoolVar(&tree, "tree", false, "Show the layers that images share: the same as image tree")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if tree {
			if format != "" {
				return errors.New("--format and --tree exclude each other; see kist image tree --help")
			}
			return a.imageTree(&imageTreeFlags{all: all, noTrunc: noTrunc, quiet: quiet}, args)
		}
		if len(args) > 0 {
			if err := filters.Set("reference=" + args[0]); err != nil {
				return err
			}
		}
		q := url.Values{}
		if all {
			q.Set("all", "1")
		}
		filters.addTo(q)
		if format == "" {
			format = a.config().Images
		}
		l := &listing{format: format, whole: noTrunc, table: imageTable, headers: imageHeaders, raw: imageRaw}
		if digests {
			l.table = imageTableDigest
		}
		if quiet {
			l.quiet = "{{.ID}}"
		}
		if l.uses(".SharedSize") || l.uses(".UniqueSize") {
			q.Set("shared-size", "1")
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		list, err := client.CallJSON[[]image.Summary](cl, client.Get("/images/json", q))
		if err != nil {
			return err
		}
		var rows []imageRow
		for i := range *list {
			rows = append(rows, imageRows(&(*list)[i], l.uses(".Digest"), !noTrunc, time.Now())...)
		}
		return printRows(a.out, l, rows)
	}
	return c
}

// imageRows makes a line for each name of an image, and with digests for each pair.
func imageRows(s *image.Summary, digests, trunc bool, now time.Time) []imageRow {
	created := time.Unix(s.Created, 0)
	base := imageRow{
		ID: s.ID, Repository: none, Tag: none, Digest: none, CreatedAt: created.String(), CreatedSince: ago(now.Sub(created)),
		Size: units.HumanSizeWithPrecision(float64(s.Size), 3), Containers: "N/A", SharedSize: "N/A", UniqueSize: "N/A",
	}
	base.VirtualSize = base.Size
	if s.Created <= 0 {
		base.CreatedSince = "N/A"
	}
	if s.Containers >= 0 {
		base.Containers = strconv.FormatInt(s.Containers, 10)
	}
	if s.SharedSize >= 0 {
		base.SharedSize = units.HumanSize(float64(s.SharedSize))
		base.UniqueSize = units.HumanSize(float64(s.Size - s.SharedSize))
	}
	if trunc {
		base.ID = shortID(s.ID)
	}
	digestOf := map[string]string{}
	var rows []imageRow
	for _, d := range s.RepoDigests {
		if repo, digest, ok := strings.Cut(d, "@"); ok && repo != none {
			digestOf[repo] = digest
		}
	}
	tagged := map[string]bool{}
	for _, t := range s.RepoTags {
		i := strings.LastIndexByte(t, ':')
		if i < 0 || t == none+":"+none {
			continue
		}
		r := base
		r.Repository, r.Tag = t[:i], t[i+1:]
		if d, ok := digestOf[r.Repository]; ok {
			r.Digest = d
		}
		tagged[r.Repository] = true
		rows = append(rows, r)
	}
	for _, repo := range sortedKeys(digestOf) {
		if tagged[repo] || !digests && len(rows) > 0 {
			continue
		}
		r := base
		r.Repository, r.Digest = repo, digestOf[repo]
		rows = append(rows, r)
	}
	if len(rows) == 0 {
		rows = append(rows, base)
	}
	return rows
}
