// SPDX-License-Identifier: Apache-2.0

package main

func Example() {
	main()
	// Output:
	// revision 2: ADDED    argo carries 0 tons
	// revision 3: ADDED    vasa carries 0 tons
	// revision 4: MODIFIED argo carries 30 tons
	// revision 5: MODIFIED argo carries 20 tons
	// revision 5: MODIFIED vasa carries 10 tons
}
