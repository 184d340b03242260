package main

import "os"

// version is set by the linker (-ldflags "-X main.version=1.2.3"); empty means
// that the build information decides.
var version string

func main() {
	os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
}
