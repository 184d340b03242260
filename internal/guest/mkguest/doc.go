// Command mkguest writes a tiny guest's disk image:
//
//	go run ./internal/guest/mkguest button tiny.img
package main
