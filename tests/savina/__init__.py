"""The programs of Savina, the actor benchmark suite (Imam and Sarkar, AGERE 2014), as tests: small sizes, results asserted."""
