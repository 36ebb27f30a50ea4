package test

import (
	"io"
	"net/url"

	"golang.org/x/net/websocket"
)

// webSocket attaches as a browser would.
func (p *prover) webSocket(path string) *websocket.Conn {
	p.t.Helper()
	location, err := url.Parse("ws://kist" + p.prefix + path)
	if err != nil {
		p.t.Fatal(err)
	}
	raw := p.dial()
	c, err := websocket.NewClient(&websocket.Config{Location: location, Origin: location, Version: websocket.ProtocolVersionHybi13}, raw)
	if err != nil {
		p.t.Fatal(err)
	}
	p.count["GET /containers/{id}/attach/ws"]++
	return c
}

// proveWebSocket attaches over WebSocket: what is sent comes back through the container, unframed, and its end ends the connection.
func proveWebSocket(p *prover) {
	const op = "GET /containers/{id}/attach/ws"
	id := p.create(`"OpenStdin":true,"StdinOnce":true,"AttachStdin":true,"Cmd":["sh","-c","read x; echo got $x; sleep 0.05; echo err >&2"]`)
	c := p.webSocket("/containers/" + id + "/attach/ws?stream=1&stdin=1&stdout=1&stderr=1")
	p.do("POST /containers/{id}/start", "/containers/"+id+"/start", "", 204)
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		p.t.Fatal(err)
	}
	out, err := io.ReadAll(c)
	if err != nil {
		p.t.Error(err)
	}
	p.equal("answer", string(out), "got hello\nerr\n")
	c = p.webSocket("/containers/" + id + "/attach/ws?logs=1&stdout=1&stderr=1")
	if out, err = io.ReadAll(c); err != nil {
		p.t.Error(err)
	}
	p.equal("log", string(out), "got hello\nerr\n")
	p.do(op, "/containers/"+id+"/attach/ws?stream=1", "", 400) // Not a WebSocket.
	// A client that goes does not take the container with it.
	c = p.webSocket("/containers/up/attach/ws?stream=1&stdout=1")
	_ = c.Close()
	p.equal("state", p.do("GET /containers/{id}/json", "/containers/up/json", "", 200).field("State", "Running"), "true")
}
