// Package chunktest holds what the tests of the chunk store share: repositories and content to try things on.
package chunktest
