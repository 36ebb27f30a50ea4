package test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"
)

// provenOperations are the proofs of what is served.
func provenOperations() map[string]func(*prover) {
	all := provenContainers()
	maps.Copy(all, provenImages())
	maps.Copy(all, provenRest())
	return all
}

const (
	noManager = "This node is not a swarm manager"
	noSwarm   = "This node is not part of a swarm"
	noPlugins = "plugin management is not served"
)

// refusedOperations are those that are not served, with their answers.
func refusedOperations() map[string]refusal {
	all := map[string]refusal{
		"POST /swarm/init":         {501, "swarm mode is not served"},
		"POST /swarm/join":         {501, "swarm mode is not served"},
		"POST /swarm/leave":        {503, noSwarm},
		"POST /swarm/unlock":       {503, noSwarm},
		"GET /plugins/{name}/json": {404, "not found"},
		"PUT /volumes/{name}":      {503, "volume update only valid for cluster volumes, but swarm is unavailable"},
	}
	for _, op := range []string{
		"GET /swarm", "POST /swarm/update", "GET /swarm/unlockkey",
		"GET /nodes", "GET /nodes/{id}", "DELETE /nodes/{id}", "POST /nodes/{id}/update",
		"GET /services", "POST /services/create", "GET /services/{id}", "DELETE /services/{id}", "POST /services/{id}/update", "GET /services/{id}/logs",
		"GET /tasks", "GET /tasks/{id}", "GET /tasks/{id}/logs",
		"GET /secrets", "POST /secrets/create", "GET /secrets/{id}", "DELETE /secrets/{id}", "POST /secrets/{id}/update",
		"GET /configs", "POST /configs/create", "GET /configs/{id}", "DELETE /configs/{id}", "POST /configs/{id}/update",
	} {
		all[op] = refusal{503, noManager}
	}
	for _, op := range []string{
		"GET /plugins/privileges", "POST /plugins/pull", "DELETE /plugins/{name}", "POST /plugins/{name}/enable", "POST /plugins/{name}/disable",
		"POST /plugins/{name}/upgrade", "POST /plugins/create", "POST /plugins/{name}/push", "POST /plugins/{name}/set",
	} {
		all[op] = refusal{501, noPlugins}
	}
	return all
}

func registryAuth(v any) map[string]string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return map[string]string{"X-Registry-Auth": base64.URLEncoding.EncodeToString(raw)}
}

const pushed = "127.0.0.1:5000/busybox"

// push sends the image to the registry.
func (p *prover) push() {
	p.t.Helper()
	p.do("POST /images/{name}/tag", "/images/"+busybox+"/tag?repo="+pushed+"&tag=1", "", 201)
	r := p.send("POST /images/{name}/push", "/images/"+pushed+"/push?tag=1", nil, registryAuth(map[string]string{}), 200)
	p.contains("push", string(r.body), `"aux":{"Tag":"1","Digest":"sha256:`)
	p.t.Cleanup(func() { p.c.do("DELETE", "/images/"+pushed+":1", "") })
}

func provenImages() map[string]func(*prover) {
	return map[string]func(*prover){
		"GET /images/json": func(p *prover) {
			r := p.do("GET /images/json", `/images/json?digests=1&shared-size=1&manifests=1&filters={"reference":["kist.test/busybox"]}`, "", 200)
			p.equal("tag", r.field("0", "RepoTags", "0"), "kist.test/busybox:latest")
		},
		"POST /images/create": func(p *prover) {
			p.push()
			p.do("DELETE /images/{name}", "/images/"+pushed+":1", "", 200)
			r := p.do("POST /images/create", "/images/create?fromImage="+pushed+"&tag=1", "", 200)
			p.contains("pull", string(r.body), "Status: ")
			r = p.send("POST /images/create", "/images/create?fromSrc=-&repo=kist.test/imported&tag=1&message=m&changes=ENV+A%3Db", smallTar(p.t, "f", "text"), nil, 200)
			p.contains("import", string(r.body), "sha256:")
			p.do("DELETE /images/{name}", "/images/kist.test/imported:1", "", 200)
			p.do("POST /images/create", "/images/create?fromImage="+pushed+"&tag=nosuch", "", 404)
		},
		"GET /images/{name}/json": func(p *prover) {
			r := p.do("GET /images/{name}/json", "/images/"+busybox+"/json", "", 200)
			p.contains("id", r.field("Id"), "sha256:")
			p.do("GET /images/{name}/json", "/images/nosuch/json", "", 404)
			if p.since(48) {
				p.do("GET /images/{name}/json", "/images/"+busybox+"/json?manifests=1", "", 200)
			}
		},
		"GET /images/{name}/attestations": func(p *prover) {
			p.do("GET /images/{name}/attestations", "/images/"+busybox+"/attestations?statement=1", "", 200)
			p.do("GET /images/{name}/attestations", "/images/nosuch/attestations", "", 404)
			p.do("GET /images/{name}/attestations", "/images/"+busybox+"/attestations?platform=x/y/z/w/v", "", 400)
		},
		"GET /images/{name}/history": func(p *prover) {
			r := p.do("GET /images/{name}/history", "/images/"+busybox+"/history", "", 200)
			p.contains("id", r.field("0", "Id"), "sha256:")
			p.do("GET /images/{name}/history", "/images/nosuch/history", "", 404)
		},
		"POST /images/{name}/push": func(p *prover) {
			p.push()
			r := p.send("POST /images/{name}/push", "/images/nosuch/push", nil, registryAuth(map[string]string{}), 404)
			p.contains("message", string(r.body), "does not exist locally with the tag: nosuch")
		},
		"POST /images/{name}/tag": func(p *prover) {
			p.do("POST /images/{name}/tag", "/images/"+busybox+"/tag?repo=kist.test/other&tag=1", "", 201)
			p.do("DELETE /images/{name}", "/images/kist.test/other:1", "", 200)
			p.do("POST /images/{name}/tag", "/images/nosuch/tag?repo=kist.test/other&tag=1", "", 404)
			p.do("POST /images/{name}/tag", "/images/"+busybox+"/tag?repo=BAD", "", 400)
		},
		"DELETE /images/{name}": func(p *prover) {
			p.do("POST /images/{name}/tag", "/images/"+busybox+"/tag?repo=kist.test/other&tag=2", "", 201)
			r := p.do("DELETE /images/{name}", "/images/kist.test/other:2?force=1&noprune=1", "", 200)
			p.equal("untagged", r.field("0", "Untagged"), "kist.test/other:2")
			p.do("DELETE /images/{name}", "/images/nosuch", "", 404)
			p.do("DELETE /images/{name}", "/images/"+busybox, "", 409)
		},
		"GET /images/search": func(p *prover) {
			p.push()
			r := p.do("GET /images/search", "/images/search?term=127.0.0.1:5000/busy&limit=5", "", 200)
			p.equal("found", r.field("0", "name"), pushed)
			p.equal("none", string(p.do("GET /images/search", "/images/search?term=127.0.0.1:5000/nosuch", "", 200).body), "[]\n")
			p.do("GET /images/search", "/images/search?term=x&limit=1000", "", 400)
			p.do("GET /images/search", "/images/search", "", 400)
		},
		"POST /images/prune": func(p *prover) {
			p.send("POST /images/create", "/images/create?fromSrc=-", smallTar(p.t, "f", p.t.Name()), nil, 200)
			r := p.do("POST /images/prune", `/images/prune?filters={"dangling":["true"]}`, "", 200)
			p.contains("deleted", r.field("ImagesDeleted"), "sha256:")
		},
		"GET /images/{name}/get": func(p *prover) {
			r := p.do("GET /images/{name}/get", "/images/"+busybox+"/get", "", 200)
			p.firstFile(bytes.NewReader(r.body))
		},
		"GET /images/get": func(p *prover) {
			p.do("POST /images/{name}/tag", "/images/"+busybox+"/tag?repo=kist.test/other&tag=3", "", 201)
			r := p.do("GET /images/get", "/images/get?names="+busybox+"&names=kist.test/other:3", "", 200)
			p.do("DELETE /images/{name}", "/images/kist.test/other:3", "", 200)
			l := p.send("POST /images/load", "/images/load?quiet=1", bytes.NewReader(r.body), nil, 200)
			p.contains("load", string(l.body), "Loaded image: kist.test/other:3")
			p.do("DELETE /images/{name}", "/images/kist.test/other:3", "", 200)
		},
		"POST /images/load": func(p *prover) {
			r := p.send("POST /images/load", "/images/load", p.archive(), map[string]string{"Content-Type": "application/x-tar"}, 200)
			p.contains("load", string(r.body), "Loaded image: kist.test/busybox:latest")
		},
		"GET /distribution/{name}/json": func(p *prover) {
			p.push()
			r := p.do("GET /distribution/{name}/json", "/distribution/"+pushed+":1/json", "", 200)
			p.contains("digest", r.field("Descriptor", "digest"), "sha256:")
			p.contains("platform", r.field("Platforms", "0", "os"), "linux")
		},
		"POST /build": func(p *prover) {
			b := smallTar(p.t, "Dockerfile", "FROM "+busybox+"\nARG V=0\nLABEL built=$V\nRUN echo "+fmt.Sprint(time.Now().UnixNano())+" > /made\n")
			r := p.send("POST /build", `/build?t=kist.test/built:1&buildargs={"V":"7"}&rm=1&forcerm=1&labels={"l":"m"}`, b, map[string]string{"Content-Type": "application/x-tar"}, 200)
			p.contains("build", string(r.body), "Successfully tagged kist.test/built:1")
			i := p.do("GET /images/{name}/json", "/images/kist.test/built:1/json", "", 200)
			p.equal("label", i.field("Config", "Labels", "built")+i.field("Config", "Labels", "l"), "7m")
			p.do("DELETE /images/{name}", "/images/kist.test/built:1", "", 200)
			p.send("POST /build", "/build?dockerfile=nosuch", smallTar(p.t, "f", "x"), map[string]string{"Content-Type": "application/x-tar"}, 400)
		},
		"POST /build/prune": func(p *prover) {
			p.do("POST /build/prune", "/build/prune?all=1", "", 200)
		},
	}
}

func provenRest() map[string]func(*prover) {
	ping := func(p *prover, method string) *reply {
		r := p.do(method+" /_ping", "/_ping", "", 200)
		p.equal("OSType", r.header.Get("OSType"), "linux")
		p.equal("Swarm", r.header.Get("Swarm"), "inactive")
		return r
	}
	return map[string]func(*prover){
		"GET /_ping":  func(p *prover) { p.equal("body", string(ping(p, "GET").body), "OK") },
		"HEAD /_ping": func(p *prover) { p.equal("body", string(ping(p, "HEAD").body), "") },
		"GET /info": func(p *prover) {
			r := p.do("GET /info", "/info", "", 200)
			p.equal("OSType", r.field("OSType"), "linux")
		},
		"GET /version": func(p *prover) {
			r := p.do("GET /version", "/version", "", 200)
			p.equal("oldest", r.field("MinAPIVersion"), "1.24")
		},
		"POST /auth": func(p *prover) {
			r := p.do("POST /auth", "/auth", `{"username":"u","password":"p","serveraddress":"127.0.0.1:5000"}`, 200)
			p.equal("status", r.field("Status"), "Login Succeeded")
		},
		"GET /events": func(p *prover) {
			begin := time.Now()
			id := p.running("")
			r := p.stream("GET /events", fmt.Sprintf(`/events?since=%d&filters={"container":{"%s":true},"event":{"start":true}}`, begin.Unix(), id))
			line, err := r.ReadBytes('\n')
			if err != nil {
				p.t.Fatal(err)
			}
			var m struct {
				Type, Action, Scope, Status string
				Actor                       struct {
					ID         string
					Attributes map[string]string
				}
				TimeNano int64
			}
			if err := json.Unmarshal(line, &m); err != nil || m.Type != "container" || m.Action != "start" || m.Actor.ID != id ||
				m.Actor.Attributes["image"] != busybox || m.Actor.Attributes["name"] == "" || m.Scope != "local" || m.TimeNano < begin.UnixNano() {
				p.t.Errorf("%s: %v", line, err)
			}
			if old := !p.since(52); old != (m.Status == "start") {
				p.t.Errorf("status %q", m.Status)
			}
		},
		"GET /system/df": func(p *prover) {
			p.do("POST /volumes/create", "/volumes/create", `{"Name":"counted"}`, 201)
			r := p.do("GET /system/df", "/system/df", "", 200)
			v := p.do("GET /system/df", "/system/df?verbose=1&type=volume&type=image", "", 200)
			p.do("DELETE /volumes/{name}", "/volumes/counted", "", 204)
			if p.since(52) {
				p.contains("volumes", v.field("VolumeUsage", "Items"), "counted")
			} else {
				p.contains("volumes", r.field("Volumes"), "counted")
			}
		},
		"POST /session": func(p *prover) {
			p.take("POST /session", "/session", "", "h2c", 101)
			p.do("POST /session", "/session", "", 400)
		},
		"GET /plugins": func(p *prover) {
			p.equal("plugins", strings.TrimSpace(string(p.do("GET /plugins", "/plugins", "", 200).body)), "[]")
		},
		"GET /volumes": func(p *prover) {
			p.do("POST /volumes/create", "/volumes/create", `{"Name":"listed","Labels":{"a":"b"}}`, 201)
			r := p.do("GET /volumes", `/volumes?filters={"label":["a=b"],"name":["listed"]}`, "", 200)
			p.equal("name", r.field("Volumes", "0", "Name"), "listed")
			p.do("DELETE /volumes/{name}", "/volumes/listed", "", 204)
		},
		"POST /volumes/create": func(p *prover) {
			r := p.do("POST /volumes/create", "/volumes/create", `{"Name":"made","Driver":"local","DriverOpts":{"type":"tmpfs","device":"tmpfs","o":"size=1m"},"Labels":{"a":"b"}}`, 201)
			p.equal("driver", r.field("Driver"), "local")
			p.do("DELETE /volumes/{name}", "/volumes/made", "", 204)
		},
		"GET /volumes/{name}": func(p *prover) {
			p.do("POST /volumes/create", "/volumes/create", `{"Name":"seen"}`, 201)
			p.equal("scope", p.do("GET /volumes/{name}", "/volumes/seen", "", 200).field("Scope"), "local")
			p.do("DELETE /volumes/{name}", "/volumes/seen", "", 204)
			p.do("GET /volumes/{name}", "/volumes/nosuch", "", 404)
		},
		"DELETE /volumes/{name}": func(p *prover) {
			p.do("POST /volumes/create", "/volumes/create", `{"Name":"used"}`, 201)
			id := p.create(`"HostConfig":{"Binds":["used:/v"]}`)
			p.do("DELETE /volumes/{name}", "/volumes/used", "", 409)
			p.do("DELETE /containers/{id}", "/containers/"+id, "", 204)
			p.do("DELETE /volumes/{name}", "/volumes/used", "", 204)
			p.do("DELETE /volumes/{name}", "/volumes/used", "", 404)
		},
		"POST /volumes/prune": func(p *prover) {
			p.do("POST /volumes/create", "/volumes/create", `{"Name":"unused","Labels":{"gone":"soon"}}`, 201)
			r := p.do("POST /volumes/prune", `/volumes/prune?filters={"label":["gone"],"all":["1"]}`, "", 200)
			p.equal("deleted", r.field("VolumesDeleted", "0"), "unused")
		},
		"GET /networks": func(p *prover) {
			r := p.do("GET /networks", `/networks?filters={"name":{"bridge":true}}`, "", 200)
			p.equal("driver", r.field("0", "Driver"), "bridge")
		},
		"GET /networks/{id}": func(p *prover) {
			r := p.do("GET /networks/{id}", "/networks/bridge?verbose=1", "", 200)
			p.equal("scope", r.field("Scope"), "local")
			p.do("GET /networks/{id}", "/networks/nosuch", "", 404)
		},
		"DELETE /networks/{id}": func(p *prover) {
			p.network("gone")
			p.do("DELETE /networks/{id}", "/networks/gone", "", 204)
			p.do("DELETE /networks/{id}", "/networks/gone", "", 404)
			p.do("DELETE /networks/{id}", "/networks/host", "", 403)
		},
		"POST /networks/create": func(p *prover) {
			p.network("made")
			p.do("DELETE /networks/{id}", "/networks/made", "", 204)
			p.do("POST /networks/create", "/networks/create", `{"Name":"host"}`, 403)
			p.do("POST /networks/create", "/networks/create", `{"Name":"x","Driver":"nosuch"}`, 404)
			p.do("POST /networks/create", "/networks/create", `{`, 400)
		},
		"POST /networks/{id}/connect":    proveConnect,
		"POST /networks/{id}/disconnect": proveConnect,
		"POST /networks/prune": func(p *prover) {
			p.network("spare")
			r := p.do("POST /networks/prune", `/networks/prune?filters={"label":["op=test"]}`, "", 200)
			p.equal("deleted", r.field("NetworksDeleted", "0"), "spare")
		},
	}
}

func (p *prover) network(name string) {
	p.t.Helper()
	p.do("POST /networks/create", "/networks/create", `{"Name":"`+name+`","Labels":{"op":"test"},"IPAM":{"Config":[{"Subnet":"10.77.0.0/24","Gateway":"10.77.0.1"}]}}`, 201)
}

func proveConnect(p *prover) {
	p.network("joined")
	id := p.running("")
	p.do("POST /networks/{id}/connect", "/networks/joined/connect", `{"Container":"`+id+`","EndpointConfig":{"IPAMConfig":{"IPv4Address":"10.77.0.9"},"Aliases":["alias"]}}`, 200)
	r := p.do("GET /containers/{id}/json", "/containers/"+id+"/json", "", 200)
	p.equal("address", r.field("NetworkSettings", "Networks", "joined", "IPAddress"), "10.77.0.9")
	n := p.do("GET /networks/{id}", "/networks/joined", "", 200)
	p.contains("containers", n.field("Containers"), id)
	p.do("POST /networks/{id}/disconnect", "/networks/joined/disconnect", `{"Container":"`+id+`","Force":true}`, 200)
	p.do("POST /networks/{id}/connect", "/networks/joined/connect", `{"Container":"nosuch"}`, 404)
	p.do("POST /networks/{id}/disconnect", "/networks/nosuch/disconnect", `{"Container":"`+id+`"}`, 404)
	p.do("DELETE /networks/{id}", "/networks/joined", "", 204)
}
