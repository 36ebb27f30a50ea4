package cli

import (
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strings"
	"text/template"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

func (a *app) eventsCommand() *cobra.Command {
	var (
		since, until, format string
		filters              filterFlag
	)
	c := &cobra.Command{Use: "events [OPTIONS]", Args: noArgs}
	c.Flags().VarP(&filters, "filter", "f", "Show only what matches, as in type=container")
	c.Flags().StringVar(&format, "format", "", "How to print: json, or a Go template")
	c.Flags().StringVar(&since, "since", "", "Begin at a time, or 42m ago")
	c.Flags().StringVar(&until, "until", "", "End at a time, or 42m ago")
	c.RunE = func(*cobra.Command, []string) error {
		q := url.Values{}
		if err := Between(q, since, until); err != nil {
			return err
		}
		filters.addTo(q)
		return a.events(q, format)
	}
	return c
}

func (a *app) events(q url.Values, format string) error {
	var t *template.Template
	if format != "" {
		if format == "json" {
			format = "{{json .}}"
		}
		var err error
		if t, err = parseTemplate(format); err != nil {
			return err
		}
	}
	cl, err := a.client()
	if err != nil {
		return err
	}
	resp, err := cl.Do(client.Get("/events", q))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	d := json.NewDecoder(resp.Body)
	for {
		var m events.Message
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return ended(err)
		}
		if err := a.printEvent(&m, t); err != nil {
			return err
		}
	}
}

func (a *app) printEvent(m *events.Message, t *template.Template) error {
	if t == nil {
		return a.printLine(eventLine(m))
	}
	var b strings.Builder
	if err := t.Execute(&b, m); err != nil {
		return templateError(err)
	}
	return a.printLine(b.String())
}

// eventLine is docker's line: time, kind, action, object and its attributes.
func eventLine(m *events.Message) string {
	at := time.Unix(m.Time, 0)
	if m.TimeNano != 0 {
		at = time.Unix(0, m.TimeNano)
	}
	// Nine places, so that lines align.
	s := at.Format("2006-01-02T15:04:05.000000000Z07:00") + " " + string(m.Type) + " " + string(m.Action) + " " + m.Actor.ID
	if len(m.Actor.Attributes) == 0 {
		return s
	}
	var attrs []string
	for _, k := range sortedKeys(m.Actor.Attributes) {
		attrs = append(attrs, k+"="+m.Actor.Attributes[k])
	}
	return s + " (" + strings.Join(attrs, ", ") + ")"
}
