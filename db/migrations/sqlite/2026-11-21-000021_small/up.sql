-- SQLite plans without what Postgres learns of its tables by itself: nothing to set.
SELECT 1;
