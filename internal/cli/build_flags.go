package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// buildFlags are those of build.
type buildFlags struct {
	tags, args, labels, annotations listFlag
	file, target, network           string
	platforms                       []string
	noCache, pull, quiet            bool
	noCacheFilter                   []string
	secrets, ssh                    listFlag
	outputs                         listFlag
	push, load                      bool
	cacheFrom, cacheTo              listFlag
	progress                        string
	iidFile, metadataFile           string
	addHosts                        listFlag
	ulimits                         ulimitFlag
	shmSize                         sizeFlag
	cgroupParent                    string
	contexts                        listFlag
	check, explain                  bool
	call                            string
	allow                           []string
	attests                         listFlag
	provenance, sbom                string
}

func (f *buildFlags) declare(fs *pflag.FlagSet) {
	list(fs, &f.tags, "tag", "t", "Name of the image: name[:tag]", nil)
	fs.StringVarP(&f.file, "file", "f", "", "Dockerfile to use; - reads standard input (default PATH/Dockerfile or PATH/Containerfile)")
	list(fs, &f.args, "build-arg", "", "Value of an ARG: name=value, or a name to take it from the environment", nil)
	list(fs, &f.contexts, "build-context", "", "Further context: name=path or name=URL", nil)
	fs.StringVar(&f.target, "target", "", "Build up to this stage")
	fs.StringSliceVar(&f.platforms, "platform", nil, "Platforms to build for, as in linux/arm64")
	list(fs, &f.secrets, "secret", "", "Secret for RUN --mount=type=secret: id=name[,src=file|,env=variable]", nil)
	list(fs, &f.ssh, "ssh", "", "SSH agent or keys for RUN --mount=type=ssh: default or id[=socket|key,...]", nil)
	list(fs, &f.outputs, "output", "o", "What to make: path, -, or type=local|tar|oci|docker|image,dest=path", nil)
	fs.BoolVar(&f.load, "load", false, "Keep the image, as without --output")
	fs.BoolVar(&f.push, "push", false, "Send the image to its registry")
	fs.BoolVar(&f.noCache, "no-cache", false, "Run every step")
	fs.StringSliceVar(&f.noCacheFilter, "no-cache-filter", nil, "Run every step of these stages")
	fs.BoolVar(&f.pull, "pull", false, "Ask registries for newer base images")
	list(fs, &f.cacheFrom, "cache-from", "", "Where to look for results: image name, or type=registry|local,...", nil)
	list(fs, &f.cacheTo, "cache-to", "", "Where to keep results: type=inline|registry|local,...", nil)
	fs.StringVar(&f.progress, "progress", "auto", "How to show progress: auto, plain, tty, quiet or rawjson")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Print the image's id only")
	fs.BoolVar(&f.explain, "explain", false, "Say of every step why it ran")
	fs.BoolVar(&f.check, "check", false, "Check the Dockerfile and build nothing")
	fs.StringVar(&f.call, "call", "build", "What to do: build, check, outline or targets, and ,format=json")
	fs.StringVar(&f.iidFile, "iidfile", "", "File to write the image's id to")
	fs.StringVar(&f.metadataFile, "metadata-file", "", "File to write the result to as JSON")
	list(fs, &f.labels, "label", "", "Label of the image: name=value", checkLabel)
	list(fs, &f.annotations, "annotation", "", "Annotation of the image: name=value", nil)
	fs.StringVar(&f.network, "network", "default", "Network of RUN: default, none or host")
	list(fs, &f.addHosts, "add-host", "", "Further line of /etc/hosts: name:address", nil)
	fs.Var(&f.ulimits, "ulimit", "Resource limit of RUN: name=soft[:hard]")
	fs.Var(&f.shmSize, "shm-size", "Size of /dev/shm of RUN")
	fs.StringVar(&f.cgroupParent, "cgroup-parent", "", "Cgroup of RUN")
	fs.StringSliceVar(&f.allow, "allow", nil, "Allow network.host, security.insecure, or device=NAME")
	list(fs, &f.attests, "attest", "", "Attestation: type=provenance|sbom,...", nil)
	fs.StringVar(&f.provenance, "provenance", "", "Attest how it was built: true, false or mode=min|max")
	fs.StringVar(&f.sbom, "sbom", "", "Attest what is in it: true, false or generator=image")
	f.declareIdle(fs)
}

// declareIdle declares flags of docker's that mean nothing here: scripts pass them.
func (f *buildFlags) declareIdle(fs *pflag.FlagSet) {
	for _, name := range []string{"rm", "force-rm", "compress", "disable-content-trust"} {
		fs.Bool(name, name == "rm", "Accepted for docker's sake")
		fs.Lookup(name).Hidden = true
	}
	for _, name := range []string{"builder", "isolation", "memory", "memory-swap", "cpu-shares", "cpu-period", "cpu-quota", "cpuset-cpus", "cpuset-mems"} {
		fs.String(name, "", "Accepted for docker's sake")
		fs.Lookup(name).Hidden = true
	}
}

// call is a method of the frontend instead of a build.
type call struct {
	method string
	json   bool
}

// callMethods are the methods by docker's names.
var callMethods = map[string]string{
	"build": "", "check": "frontend.lint", "lint": "frontend.lint", "outline": "frontend.outline", "targets": "frontend.targets",
}

// parseCall reads --call and --check.
func (f *buildFlags) parseCall() (call, error) {
	name, format, _ := strings.Cut(f.call, ",")
	method, ok := callMethods[strings.TrimPrefix(name, "frontend.")]
	if !ok {
		return call{}, fmt.Errorf("invalid --call %q: must be build, check, outline or targets", name)
	}
	c := call{method: method}
	switch format {
	case "":
	case "format=json":
		c.json = true
	case "format=text":
	default:
		return call{}, fmt.Errorf("invalid --call %q: the format is json or text", f.call)
	}
	if f.check {
		if method != "" && method != "frontend.lint" {
			return call{}, fmt.Errorf("conflicting options: --check and --call %s", name)
		}
		c.method = "frontend.lint"
	}
	return c, nil
}
