// SPDX-License-Identifier: Apache-2.0

package main

func Example() {
	main()
	// Output:
	// argo is in Riga (initial: true)
	// vasa is in Riga (initial: false)
	// argo went from Riga to Turku
	// in Turku: argo
	// argo was last seen in Turku
}
