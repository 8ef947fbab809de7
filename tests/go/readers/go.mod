module deputy.example/json-reader

go 1.22
