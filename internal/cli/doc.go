// Package cli is kist's command line: docker's commands, flags, tables and exit codes, over the Engine API.
//
// A command is built only when it is asked for (commands.go lists them all), reads its flags, makes its requests through
// the client, writes data to standard output and everything else to standard error. What a command needs of its surroundings
// is in app; nothing is global.
package cli
