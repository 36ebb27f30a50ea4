package cli

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// layeredImage is an image as its layers, the lowest first.
type layeredImage struct {
	ID           string
	Names        []string
	Size, Wasted int64
	Steps        []layerStep
}

// layerStep is a step of an image's history; Layer is empty if it made none.
type layerStep struct {
	CreatedBy, Comment, Layer string
	Created, Size, Wasted     int64
	Files, Removed            int
	Added, Waste              []pathSize
}

type pathSize struct {
	Path string
	Size int64
}

type imageTreeFlags struct {
	format              string
	all, noTrunc, quiet bool
}

func (a *app) imageTreeCommand() *cobra.Command {
	var f imageTreeFlags
	c := &cobra.Command{Use: "tree [OPTIONS] [IMAGE]", Args: between(0, 1)}
	c.Flags().BoolVarP(&f.all, "all", "a", false, "Also steps that made no layer, and images without a name")
	c.Flags().StringVar(&f.format, "format", "", formatHelp)
	c.Flags().BoolVar(&f.noTrunc, "no-trunc", false, "Do not shorten anything")
	c.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "Print the layers' digests only")
	c.RunE = func(_ *cobra.Command, args []string) error { return a.imageTree(&f, args) }
	return c
}

// imageTree shows one image, or all, as layers.
func (a *app) imageTree(f *imageTreeFlags, args []string) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	width := a.pictureWidth(f.noTrunc)
	l := &listing{format: f.format, table: treeTable, headers: treeHeaders}
	if f.quiet {
		l.quiet = "{{.Layer}}"
	}
	if len(args) == 0 {
		list, err := client.CallJSON[[]layeredImage](cl, client.Get("/kist/images/tree", nil))
		if err != nil {
			return ownOnly(err, "image tree")
		}
		if f.format != "" || f.quiet {
			return printRows(a.out, l, forestRows(*list))
		}
		return a.print(forestPicture(*list, f.all, width))
	}
	one, err := a.layeredImage(cl, args[0])
	if err != nil {
		return err
	}
	if f.format != "" || f.quiet {
		return printRows(a.out, l, layerRows(one, f.all))
	}
	return a.print(imagePicture(one, f.all, width))
}

func (a *app) layeredImage(cl *client.Client, name string) (*layeredImage, error) {
	m := a.measure("Measuring the layers of "+name, 0)
	one, err := client.CallJSON[layeredImage](cl, client.Get("/kist/images/tree", url.Values{"image": {name}}))
	m.end("", err)
	if err != nil {
		return nil, a.hintImage(cl, name, ownOnly(err, "measuring layers"))
	}
	return one, nil
}

// pictureWidth is how wide a picture may be: as the terminal, and not wider than can be read.
func (a *app) pictureWidth(whole bool) int {
	const usual, widest = 100, 140
	if whole {
		return 1 << 16
	}
	if _, cols, ok := terminalSize(a.out); ok {
		return min(max(cols, 40), widest)
	}
	return usual
}

// print writes text.
func (a *app) print(s string) error { return a.printLine(strings.TrimSuffix(s, "\n")) }

// layerRow is a line of image tree with --format.
type layerRow struct {
	CreatedBy string
	Files     string
	Images    string
	Layer     string
	Removed   string
	Size      string
	Wasted    string
}

var treeHeaders = headers{
	"Layer": "LAYER", "Size": "SIZE", "Wasted": "WASTED", "Files": "FILES", "Removed": "REMOVED", "CreatedBy": "CREATED BY", "Images": "IMAGES",
}

const treeTable = "{{.Layer}}\t{{.Size}}\t{{.Wasted}}\t{{.Files}}\t{{.CreatedBy}}\t{{.Images}}"

// layerRows are an image's layers, the newest first as in history.
func layerRows(one *layeredImage, all bool) []layerRow {
	var rows []layerRow
	for _, s := range slices.Backward(one.Steps) {
		if s.Layer == "" && !all {
			continue
		}
		rows = append(rows, layerRow{
			Layer: s.Layer, CreatedBy: s.CreatedBy, Size: humanSize(s.Size), Wasted: humanSize(s.Wasted), Files: strconv.Itoa(s.Files),
			Removed: strconv.Itoa(s.Removed), Images: strings.Join(one.Names, ","),
		})
	}
	return rows
}

// forestRows are all layers once, with the images that end with them.
func forestRows(list []layeredImage) []layerRow {
	var rows []layerRow
	var walk func(n *treeNode)
	walk = func(n *treeNode) {
		if n.step.Layer != "" {
			rows = append(rows, layerRow{
				Layer: n.step.Layer, CreatedBy: n.step.CreatedBy, Size: humanSize(n.step.Size), Wasted: "N/A", Files: "N/A", Removed: "N/A",
				Images: strings.Join(n.names, ","),
			})
		}
		for _, child := range n.children {
			walk(child)
		}
	}
	walk(forest(list, true))
	return rows
}

func humanSize(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

// instruction is a step as a person wrote it.
func instruction(s *layerStep) string {
	text := s.CreatedBy
	for _, shell := range []string{"/bin/sh -c ", "|0 /bin/sh -c "} {
		if rest, ok := strings.CutPrefix(strings.TrimPrefix(text, "RUN "), shell); ok {
			if text = "RUN " + rest; strings.HasPrefix(rest, "#(nop)") {
				text = strings.TrimSpace(strings.TrimPrefix(rest, "#(nop)"))
			}
		}
	}
	text = strings.TrimSuffix(strings.TrimSpace(text), "# buildkit")
	text = strings.Join(strings.Fields(stripControl(strings.ReplaceAll(text, "\t", " "))), " ")
	switch {
	case text != "":
		return text
	case s.Comment != "":
		return stripControl(s.Comment)
	}
	return "(unknown)"
}
