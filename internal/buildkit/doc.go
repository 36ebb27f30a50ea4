// Package buildkit lets BuildKit's clients (buildx, docker build, buildctl) use kist's builder: it serves BuildKit's gRPC
// services on connections that were taken over from Docker's API.
//
// A client opens two connections. On the first one (POST /grpc) it is the client: of Control, which starts builds and
// streams their progress, and of LLBBridge, through which a frontend that runs at the client asks for parts of a build. On
// the second one (POST /session) the roles are swapped: the client serves what a build wants of its machine, files of the
// context, secrets, ssh agents and credentials, and takes what a build makes for it.
//
//	client                              daemon
//	  | POST /session, upgrade            |
//	  |<== FileSync, Secrets, SSH, Auth ==|  sessions.go, client.go: build.Session over gRPC
//	  | POST /grpc, upgrade               |
//	  |-- Control.Status(ref) ----------->|  status.go: progress, also of builds that have ended
//	  |-- Control.Solve(ref, session) --->|  control.go: build.Builder.Solve, or Build with a gateway
//	  |-- LLBBridge.Solve, ReadFile ----->|  bridge.go: the gateway of that build, found by its ref
//	  |-- LLBBridge.Return -------------->|  its result is what Control.Solve exports
//	  |<------------- Control.Solve ------|
//
// Nothing is built up before the first such connection: a daemon that nobody builds with pays nothing.
package buildkit
