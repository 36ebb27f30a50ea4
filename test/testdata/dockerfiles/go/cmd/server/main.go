package main

import (
	"flag"
	"fmt"

	"github.com/google/uuid"

	"example.test/server/internal/greet"
)

var version = "unset"

func main() {
	greeting := flag.String("greeting", "hi", "what to say")
	flag.Parse()
	fmt.Println(greet.From(*greeting, version), uuid.NewSHA1(uuid.NameSpaceDNS, []byte("example.test")))
}
