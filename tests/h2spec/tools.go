//go:build tools

// Package tools names the program that build.sh builds, so that go.mod keeps its modules.
package tools

import _ "github.com/summerwind/h2spec/cmd/h2spec"
