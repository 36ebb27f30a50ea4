package client

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func readAll(s string) (int, string, error) {
	r := bufio.NewReader(strings.NewReader(s))
	resp, err := readHead(r)
	if err != nil {
		return 0, "", err
	}
	body, _, err := resp.body("GET", r)
	if err != nil {
		return resp.Status, "", err
	}
	b, err := io.ReadAll(body)
	return resp.Status, string(b), err
}

func TestResponses(t *testing.T) {
	for _, tc := range []struct {
		name, in, body string
		status         int
		err            error
	}{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", "abc", 200, nil},
		{"until the end", "HTTP/1.0 200 OK\r\n\r\nabc", "abc", 200, nil},
		{"chunks", "HTTP/1.1 201 X\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nTrailer: 1\r\n\r\n", "abcd", 201, nil},
		{"interim", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "", 204, nil},
		{"short body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "abc", 200, io.ErrUnexpectedEOF},
		{"short chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "abc", 200, io.ErrUnexpectedEOF},
		{"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nabc", "", 200, errHeader},
		{"bad chunk end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n", "a", 200, errHeader},
		{"negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "", 200, errHeader},
		{"no HTTP", "SSH-2.0-OpenSSH\r\n", "", 0, errHeader},
		{"no header end", "HTTP/1.1 200 OK\r\nA: b\r\n", "", 0, io.ErrUnexpectedEOF},
		{"endless header", "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 300), "", 0, errHeader},
		{"endless line", "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", 100_000), "", 0, errHeader},
	} {
		status, body, err := readAll(tc.in)
		if status != tc.status || body != tc.body || !errors.Is(err, tc.err) {
			t.Errorf("%s: %d %q %v", tc.name, status, body, err)
		}
	}
}

func FuzzResponse(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
	f.Fuzz(func(t *testing.T, s string) {
		_, body, _ := readAll(s)
		if len(body) > len(s) {
			t.Errorf("%d bytes out of %d", len(body), len(s))
		}
	})
}

func TestDemux(t *testing.T) {
	frame := func(stream byte, s string) string {
		return string([]byte{stream, 0, 0, 0, 0, 0, byte(len(s) >> 8), byte(len(s))}) + s
	}
	big := strings.Repeat("x", 50_000)
	var out, errs bytes.Buffer
	in := frame(1, "out1 ") + frame(2, "err ") + frame(1, "") + frame(0, "in") + frame(1, big)
	if err := Demux(&out, &errs, strings.NewReader(in)); err != nil || out.String() != "out1 in"+big || errs.String() != "err " {
		t.Errorf("%v %d %q", err, out.Len(), errs.String())
	}
	for name, tc := range map[string]struct {
		in   string
		want string
	}{
		"daemon's own":  {frame(3, "it broke"), "it broke"},
		"unknown":       {frame(9, "x"), "unknown form"},
		"cut":           {frame(1, "abc")[:9], "unexpected EOF"},
		"cut head":      {frame(1, "abc")[:3], "unexpected EOF"},
		"not in frames": {"plain text of a terminal", "unknown form"},
	} {
		err := Demux(io.Discard, io.Discard, strings.NewReader(tc.in))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDemux(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x03abc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var out, errs bytes.Buffer
		_ = Demux(&out, &errs, bytes.NewReader(b))
		if out.Len()+errs.Len() > len(b) {
			t.Error("more came out than went in")
		}
	})
}
