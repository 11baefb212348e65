DROP TABLE coalesced_starts;
