"""Two small databases and questions about them, in the benchmark's formats."""

import json

DUMP = """-- TEST USER
CREATE USER 'admin'@'%' IDENTIFIED BY 'admin';
GRANT ALL PRIVILEGES ON *.* TO 'admin'@'%';
CREATE DATABASE  IF NOT EXISTS `hpl_test_library` /*!40100 DEFAULT CHARACTER SET utf8mb4 */;
USE `hpl_test_library`;
/*!40101 SET character_set_client = utf8mb4 */;
DROP TABLE IF EXISTS `Author`;
CREATE TABLE `Author` (
  `Author_ID` int NOT NULL AUTO_INCREMENT,
  `Name` varchar(40) COLLATE utf8mb4_general_ci NOT NULL,
  `Born` int DEFAULT NULL,
  PRIMARY KEY (`Author_ID`)
) ENGINE=InnoDB AUTO_INCREMENT=4 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
LOCK TABLES `Author` WRITE;
INSERT INTO `Author` VALUES (1,'Ann O\\'Hara',1950),(2,'Bo Lind ',NULL),(3,'Cy; (the third)',1950);
UNLOCK TABLES;
CREATE TABLE `Book` (
  `Book_ID` int NOT NULL,
  `Title` text COLLATE utf8mb4_general_ci,
  `Price` float(10,2) NOT NULL DEFAULT '0.00',
  `Author_ID` int DEFAULT NULL,
  `Isbn` varchar(10) COLLATE utf8mb4_general_ci DEFAULT NULL,
  PRIMARY KEY (`Book_ID`),
  UNIQUE KEY `isbn` (`Isbn`),
  KEY `author` (`Author_ID`),
  CONSTRAINT `written_by` FOREIGN KEY (`Author_ID`) REFERENCES `Author` (`Author_ID`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
INSERT INTO `Book` VALUES (1,'Alpha',10.5,1,'a'),(2,'Beta',20,1,'b'),(3,'Gamma',5.25,3,NULL);
CREATE DATABASE IF NOT EXISTS `hpl_test_other`;
USE `hpl_test_other`;
CREATE TABLE `secret` (`word` varchar(9) DEFAULT NULL) ENGINE=InnoDB;
INSERT INTO `secret` VALUES ('tulip');
"""
LIBRARY, OTHER = "hpl_test_library", "hpl_test_other"
QUESTIONS = [
    {
        "db": LIBRARY,
        "query": "How many books are there?",
        "gold": "SELECT count(*) FROM Book",
        "hardness": "easy",
    },
    {
        "db": LIBRARY,
        "query": "List the titles of the books, from the cheapest to the dearest.",
        "gold": "SELECT title FROM book ORDER BY price",
        "hardness": "easy",
    },
    {
        "db": LIBRARY,
        "query": "What are the names of the authors and how many books has each written?",
        "gold": "SELECT T1.Name, count(*) FROM Author AS T1 JOIN Book AS T2 "
        "ON T1.Author_ID = T2.Author_ID GROUP BY T1.Author_ID",
        "hardness": "medium",
    },
    {"db": OTHER, "query": "What is the word?", "gold": "SELECT word FROM secret"},
]


def write(folder, dump=DUMP, questions=QUESTIONS):
    """Write the files into `folder` and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ic_spider_dbs.sql").write_text(dump, encoding="utf-8")
    (folder / "ic_spider_dev.json").write_text(json.dumps(questions), encoding="utf-8")
    return folder
