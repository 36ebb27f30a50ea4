package model

import (
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkLoad reads a small project, as every command does once.
func BenchmarkLoad(b *testing.B) {
	file := filepath.Join(b.TempDir(), "compose.yaml")
	text := "services:\n"
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		text += "  " + name + ": {image: x, command: sleep 1000, environment: {A: b}, ports: [\"80:80\"], volumes: [\"data:/data\"]}\n"
	}
	if err := os.WriteFile(file, []byte(text+"volumes: {data: {}}\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := (&Options{Files: []string{file}}).Load(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
