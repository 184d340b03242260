package main

import (
	"fmt"
	"os"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mkguest:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: mkguest VARIANT PATH")
	}
	variant, err := guest.ParseVariant(args[0])
	if err != nil {
		return err
	}
	return guest.Write(args[1], variant)
}
