// Package e2e holds the end-to-end tests: networks of five centres as five processes, under load, killed, cut off and
// damaged. They run with DENGBEI_E2E=1 only; see [dengbei/deploy/e2e/network] for what else the environment says.
package e2e
