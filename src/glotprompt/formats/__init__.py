"""Exchange with other libraries: PEFT and AdapterHub."""
