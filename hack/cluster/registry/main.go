// Command registry is CNCF Distribution, an OCI registry, with what tests need of it.
//
// Why it exists: upstream's main links the clients of three clouds' storage; this one builds
// without them. It must never change how the registry behaves: it only chooses what is linked.
package main

import (
	"os"

	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/auth/token"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

func main() {
	if err := registry.RootCmd.Execute(); err != nil {
		os.Exit(1)
	}
}
