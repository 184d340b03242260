package reconcile

import (
	"os"
	"path/filepath"
	"strings"
)

// wayTo are all paths that the resolution of an absolute path passes: each of
// its directories, and for each symlink those of its target. holders are the
// directories that the symlinks are in, and real is the path without them. A
// loop of links ends the search.
//
// Directories right below the root are on the way, but arm does not watch them
// for their own sake: nobody swaps /etc or /tmp, and much happens in some.
func wayTo(path string) (way map[string]bool, holders []string, real string) {
	way = map[string]bool{}
	for {
		link, target := firstLink(path)
		last := path
		if link != "" {
			last = link
		}
		again := link != "" && way[link]
		for ; last != filepath.Dir(last); last = filepath.Dir(last) {
			way[last] = true
		}
		if link == "" || again {
			return way, holders, path
		}
		holders = append(holders, filepath.Dir(link))
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(link), target)
		}
		path = filepath.Join(target, strings.TrimPrefix(path, link))
	}
}

// firstLink is the first component of an absolute path that is a symlink, and
// where it points.
func firstLink(path string) (link, target string) {
	at := "/"
	for part := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		at = filepath.Join(at, part)
		if target, err := os.Readlink(at); err == nil {
			return at, target
		}
	}
	return "", ""
}
