// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// version is what the checkout is published as in its proxy.
const version = "v0.0.1"

// writeProxy writes the module at dir, as one version, into a directory that
// serves as a GOPROXY (https://go.dev/ref/mod#goproxy-protocol), and returns the
// module's path. The zip file is made by the rules that real proxies follow:
// nested modules and vendored packages are left out.
func writeProxy(proxy, dir string) (path string, err error) {
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return "", err
	}
	path = modfile.ModulePath(mod)
	escaped, err := module.EscapePath(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", filepath.Join(dir, "go.mod"), err)
	}
	info, err := json.Marshal(struct {
		Version string
		Time    time.Time
	}{version, time.Now().UTC()})
	if err != nil {
		return "", err
	}
	at := filepath.Join(proxy, filepath.FromSlash(escaped), "@v")
	if err := os.MkdirAll(at, 0o777); err != nil {
		return "", err
	}
	return path, errors.Join(
		os.WriteFile(filepath.Join(at, "list"), []byte(version+"\n"), 0o666),
		os.WriteFile(filepath.Join(at, version+".info"), info, 0o666),
		os.WriteFile(filepath.Join(at, version+".mod"), mod, 0o666),
		writeZip(filepath.Join(at, version+".zip"), dir, module.Version{Path: path, Version: version}),
	)
}

func writeZip(name, dir string, m module.Version) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return zip.CreateFromDir(f, m, dir)
}

// fileURL returns the file URL of an absolute path.
func fileURL(path string) string {
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(path)}).String()
}
