package cli

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/image"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// historyRow is a line of history.
type historyRow struct {
	Comment      string
	CreatedAt    string
	CreatedBy    string
	CreatedSince string
	ID           string
	Size         string
	// Wasted is what of the layer nobody sees; measured only if it is asked for.
	Wasted string `json:",omitempty"`
}

var historyHeaders = headers{
	"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT", "Wasted": "WASTED",
}

func (a *app) historyCommand() *cobra.Command {
	var (
		human, noTrunc, quiet, wasted bool
		format, platform              string
	)
	c := &cobra.Command{Use: "history [OPTIONS] IMAGE", Args: exactly(1)}
	c.Flags().StringVar(&format, "format", "", formatHelp)
	c.Flags().BoolVarP(&human, "human", "H", true, "Print sizes and ages for people")
	c.Flags().BoolVar(&noTrunc, "no-trunc", false, "Do not shorten anything")
	c.Flags().StringVar(&platform, "platform", "", "Platform of the image: os/architecture")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print ids only")
	c.Flags().BoolVar(&wasted, "wasted", false, "Also what of each layer is overwritten or removed by later ones")
	c.RunE = func(_ *cobra.Command, args []string) error {
		q := url.Values{}
		if platform != "" {
			if err := addPlatform(q, "platform", platform); err != nil {
				return err
			}
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		items, err := client.CallJSON[[]image.HistoryResponseItem](cl, client.Get(imagePath(args[0], "/history"), q))
		if err != nil {
			return a.hintImage(cl, args[0], err)
		}
		l := &listing{format: format, whole: noTrunc, headers: historyHeaders, table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"}
		if !human {
			l.table = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
		}
		if wasted {
			l.table = strings.Replace(l.table, "{{.Size}}", "{{.Size}}\t{{.Wasted}}", 1)
		}
		if quiet {
			l.quiet = "{{.ID}}"
		}
		rows := make([]historyRow, len(*items))
		for i, h := range *items {
			rows[i] = historyRowOf(h, human, !noTrunc, time.Now())
		}
		if wasted || strings.Contains(format, ".Wasted") {
			if err := a.addWaste(cl, args[0], rows, human); err != nil {
				return err
			}
		}
		return printRows(a.out, l, rows)
	}
	return c
}

func historyRowOf(h image.HistoryResponseItem, human, trunc bool, now time.Time) historyRow {
	created := time.Unix(h.Created, 0)
	r := historyRow{
		Comment: h.Comment, CreatedAt: created.Format(time.RFC3339), ID: h.ID, Size: strconv.FormatInt(h.Size, 10),
		CreatedBy: strings.ReplaceAll(h.CreatedBy, "\t", " "),
	}
	if human {
		r.Size = units.HumanSizeWithPrecision(float64(h.Size), 3)
	}
	if h.Created > time.Time.Unix(time.Time{}) {
		r.CreatedSince = ago(now.Sub(created))
	}
	if trunc {
		r.ID = shortID(r.ID)
		r.CreatedBy = ellipsis(r.CreatedBy, 45)
	}
	return r
}

// addWaste measures the layers of an image. The rows begin with the newest, its steps with the oldest.
func (a *app) addWaste(cl *client.Client, name string, rows []historyRow, human bool) error {
	one, err := a.layeredImage(cl, name)
	if err != nil {
		return err
	}
	for i := range rows {
		at := len(one.Steps) - 1 - i
		if at < 0 {
			break
		}
		rows[i].Wasted = strconv.FormatInt(one.Steps[at].Wasted, 10)
		if human {
			rows[i].Wasted = humanSize(one.Steps[at].Wasted)
		}
	}
	return nil
}
